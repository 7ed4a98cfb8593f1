// Native filters that look at who is there, and at what is in progress: in front of a disk in
// memory, or of one that answers when it is told to.
#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "filters/exit_events.hpp"
#include "filters/ip_rules.hpp"
#include "filters/protect_ranges.hpp"
#include "filters/registry.hpp"
#include "held_backend.hpp"
#include "memory_backend.hpp"
#include "simulated_front.hpp"
#include "test_client.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;
using filters::FilterOptions;
using Front = SimulatedFront;

// ---- protect ------------------------------------------------------------------------------------

TEST_CASE("a protected part accepts only the bytes it already has") {
  Front front("protect", {{"ranges", std::vector<std::string>{"512-1023"}}});
  auto layer = front.open_on(std::make_unique<MemoryBackend>(front.disk));
  CHECK(write(*layer, 0, 512, 7) == 0);
  CHECK(write(*layer, 1024, 512, 7) == 0);
  CHECK(write(*layer, 600, 8, 0) == 0);
  CHECK(write(*layer, 512, 8, 0) == 0);
  CHECK(write(*layer, 1000, 100, 0) == 0);
  CHECK(write(*layer, 600, 8, 1) == EPERM);
  CHECK(write(*layer, 0, 2048, 1) == EPERM);
  CHECK(front.disk.bytes[0] == 7);
  CHECK(TestRequest(NBD_CMD_TRIM, 0, 2048).run(*layer) == 0);
  front.disk.bytes[1023] = 1;
  CHECK(TestRequest(NBD_CMD_WRITE_ZEROES, 0, 2048).run(*layer) == EPERM);
  layer->close();
}

TEST_CASE("data is received in place only where nothing is protected") {
  Front front("protect", {{"ranges", std::vector<std::string>{"512-1023"}}});
  auto layer = front.open_on(std::make_unique<MemoryBackend>(front.disk));
  TestRequest free_write(NBD_CMD_WRITE, 0, 512, 1);
  CHECK(layer->reserve(free_write).data != nullptr);
  layer->unreserve(free_write);
  TestRequest protected_write(NBD_CMD_WRITE, 1, 512, 1);
  CHECK(layer->reserve(protected_write).data == nullptr);
  TestRequest read(NBD_CMD_READ, 600, 8);
  CHECK(layer->reserve(read).data != nullptr);
  layer->close();
}

TEST_CASE("ranges may join, and be inverted") {
  std::string error;
  const auto ranges = filters::protected_ranges({"100-199", "0-50", "150-160", "~0-0x3ff"}, &error);
  CHECK(error.empty());
  REQUIRE(ranges.size() == 3);
  CHECK(ranges[1].end == 200);
  CHECK(ranges[2].begin == 1024);
  for (const char *wrong : {"", "5", "9-1", "a-b", "0-1 5-6", "-1-5"}) {
    CAPTURE(wrong);
    error.clear();
    filters::protected_ranges({wrong}, &error);
    CHECK_FALSE(error.empty());
  }
}

// ---- ip -----------------------------------------------------------------------------------------

namespace {

filters::Peer peer_at(const char *address) {
  filters::Peer peer;
  auto *in = reinterpret_cast<sockaddr_in *>(&peer.address);
  auto *in6 = reinterpret_cast<sockaddr_in6 *>(&peer.address);
  if (inet_pton(AF_INET, address, &in->sin_addr) == 1)
    peer.address.ss_family = AF_INET;
  else if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1)
    peer.address.ss_family = AF_INET6;
  return peer;
}

bool fits(const std::string &rule, const filters::Peer &peer) {
  std::string error;
  const std::vector<filters::IpRule> rules = filters::ip_rules("allow", {rule}, &error);
  REQUIRE_MESSAGE(error.empty(), error);
  REQUIRE(rules.size() == 1);
  return rules[0].fits(peer);
}

} // namespace

TEST_CASE("rules match addresses by their first bits") {
  const filters::Peer v4 = peer_at("192.168.7.9");
  CHECK(fits("192.168.0.0/16", v4));
  CHECK(fits("192.168.7.8/31", v4));
  CHECK_FALSE(fits("192.168.7.8", v4));
  CHECK(fits("0.0.0.0/0", v4));
  CHECK(fits("AnyIPv4", v4));
  CHECK_FALSE(fits("anyipv6", v4));
  const filters::Peer v6 = peer_at("fe80::1");
  CHECK(fits("fe80::/10", v6));
  CHECK(fits("FE80::1", v6));
  CHECK_FALSE(fits("fe80::2/127", peer_at("fe80::5")));
  CHECK_FALSE(fits("192.168.0.0/0", v6));
}

TEST_CASE("rules for IPv4-mapped addresses are rules for IPv4") {
  const filters::Peer v4 = peer_at("10.1.2.3");
  CHECK(fits("::ffff:10.0.0.0/104", v4));
  CHECK(fits("::ffff:10.1.2.3", v4));
  CHECK_FALSE(fits("::ffff:10.1.2.4", v4));
  CHECK(fits("::ffff:0:0/96", v4));
  CHECK_FALSE(fits("::ffff:0:0/96", peer_at("fe80::1")));
}

TEST_CASE("a wrong rule is refused with a list of the kinds there are") {
  for (const char *wrong : {"anyipv5", "1.2.3", "1.2.3.4/33", "::1/129", "::ffff:0:0/95", "pid:0",
                            "uid:-1", "uid:x", ",", "a,b", "vsock-cid:4294967296"}) {
    CAPTURE(wrong);
    std::string error;
    filters::ip_rules("deny", {wrong}, &error);
    CHECK(error.find("deny=") != std::string::npos);
  }
}

// ---- exitwhen -----------------------------------------------------------------------------------

TEST_CASE("a pipe, a process, a file or a script can end the server") {
  std::string error;
  const auto happened = [&](filters::ExitEventNames names) {
    const auto events = filters::ExitEvents::open(std::move(names), &error);
    REQUIRE_MESSAGE(events, error);
    return events->what_has_happened();
  };
  CHECK(happened({{"/nonexistent"}, {"/"}, {}, {"1"}, {"exit 0"}}) == "");
  CHECK(happened({{"/"}, {}, {}, {}, {}}) == "/ has been created");
  CHECK(happened({{}, {"/nonexistent"}, {}, {}, {}}) == "/nonexistent has been deleted");
  CHECK(happened({{}, {}, {}, {}, {"exit 88"}}) == "a script has exited with 88");
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  CHECK(happened({{}, {}, {std::to_string(ends[0])}, {}, {}}) == "");
  ::close(ends[1]);
  CHECK(happened({{}, {}, {std::to_string(ends[0])}, {}, {}}) != "");
  ::close(ends[0]);
  CHECK(filters::ExitEvents::open({{}, {}, {std::to_string(ends[0])}, {}, {}}, &error) == nullptr);
  CHECK(filters::ExitEvents::open({{}, {}, {}, {"0"}, {}}, &error) == nullptr);
}

TEST_CASE("a client that comes while a script is asked whether to end keeps the server") {
  const std::string path = "/tmp/asyncnbd-exitwhen-test-" + std::to_string(getpid());
  const std::string script = "[ -e " + path + ".1 ] || exit 0; touch " + path +
                             ".2; while [ ! -e " + path + ".3 ]; do sleep 0.01; done; exit 88";
  const auto make = [&](const char *suffix) {
    ::close(::open((path + suffix).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  };
  Front front("exitwhen", {{"scripts", std::vector<std::string>{script}}});
  front.filter->get_ready(0);
  make(".1");
  front.timers.run_due();
  host::ShutdownWish wish;
  std::thread looking([&] {
    const host::StartScope scope(&wish);
    front.threads.run_one();
  });
  while (access((path + ".2").c_str(), F_OK) == -1)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  auto layer = front.open_on(std::make_unique<MemoryBackend>(front.disk));
  make(".3");
  looking.join();
  CHECK_FALSE(wish.is_expressed());
  const std::string name;
  CHECK_FALSE(front.filter->admits({front.client, name, false}, &front.error)); // but is the last
  layer->close();
  front.filter->end();
  for (const char *suffix : {".1", ".2", ".3"})
    unlink((path + suffix).c_str());
}

// ---- pause --------------------------------------------------------------------------------------

namespace {

struct PausedFront : Front {
  std::string path;
  int operator_fd = -1;

  explicit PausedFront(const std::string &path) : Front("pause", {{"control", path}}), path(path) {
    filter->get_ready(0);
    thread = std::thread([task = threads.tasks.front()] { task(); });
    threads.tasks.clear();
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    operator_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(connect(operator_fd, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0);
  }
  ~PausedFront() {
    filter->end();
    ::close(operator_fd);
    thread.join();
  }

  void say(char command) { REQUIRE(::send(operator_fd, &command, 1, 0) == 1); }
  char hear() {
    char answer = 0;
    return ::recv(operator_fd, &answer, 1, 0) == 1 ? answer : '\0';
  }

  std::thread thread;
};

std::string socket_path() {
  return "/tmp/asyncnbd-pause-test-" + std::to_string(getpid());
}

} // namespace

TEST_CASE("paused requests wait until they may go on, and flushes pass") {
  PausedFront front(socket_path());
  auto layer = front.open_on(std::make_unique<MemoryBackend>(front.disk));
  REQUIRE(layer);
  front.say('p');
  CHECK(front.hear() == 'P');
  TestRequest write(NBD_CMD_WRITE, 0, 512, 1);
  layer->submit(write, Caller::may_block);
  CHECK_FALSE(write.is_done());
  CHECK(flush(*layer) == 0);
  TestRequest read(NBD_CMD_READ, 0, 512);
  CHECK(layer->reserve(read).data == nullptr);
  front.say('r');
  CHECK(front.hear() == 'R');
  while (front.threads.run_one())
    ;
  CHECK(write.wait() == 0);
  front.say('?');
  CHECK(front.hear() == 'X');
  layer->close();
}

TEST_CASE("a pause is answered when the requests in progress are") {
  PausedFront front(socket_path());
  HeldBackend::Held held;
  auto plugin = std::make_unique<HeldBackend>(front.disk, held);
  HeldBackend &answering = *plugin;
  auto layer = front.open_on(std::move(plugin));
  TestRequest write(NBD_CMD_WRITE, 0, 512, 1);
  layer->submit(write, Caller::may_block);
  Request *below = held.take();
  front.say('p');
  char answer = 0;
  CHECK(::recv(front.operator_fd, &answer, 1, MSG_DONTWAIT) == -1);
  answering.answer(*below);
  CHECK(front.hear() == 'P');
  CHECK(write.wait() == 0);
  layer->close();
}

TEST_CASE("a waiting request fails when its client leaves") {
  PausedFront front(socket_path());
  auto layer = front.open_on(std::make_unique<MemoryBackend>(front.disk));
  front.say('p');
  CHECK(front.hear() == 'P');
  TestRequest write(NBD_CMD_WRITE, 0, 512, 1);
  layer->submit(write, Caller::may_block);
  layer->on_client_gone();
  CHECK(write.wait() == ESHUTDOWN);
  CHECK(front.disk.submitted == 0);
  layer->close();
}

// ---- exportname ---------------------------------------------------------------------------------

TEST_CASE("a strict filter admits only the given names") {
  Front front("exportname", {{"strict", true}, {"names", std::vector<std::string>{"a"}}});
  const std::string a = "a";
  const std::string b = "b";
  CHECK(front.filter->admits({front.client, a, false}, &front.error));
  CHECK_FALSE(front.filter->admits({front.client, b, false}, &front.error));
  CHECK(front.error.find("\"b\"") != std::string::npos);
}

TEST_CASE("a description is fixed, or a script makes it from the name") {
  for (const auto &[word, expected] : std::vector<std::pair<std::string, std::string>>{
           {"fixed:words", "words"}, {"none", ""}, {"script:echo \"<$name>\"; exit 1", "<>"}}) {
    Front front("exportname", {{"description", word}});
    auto layer = front.open_on(std::make_unique<MemoryBackend>(front.disk));
    CHECK(layer->facts().description == expected);
    layer->close();
  }
}

// ---- noparallel ---------------------------------------------------------------------------------

TEST_CASE("a filter for one client at a time does not offer multi-conn") {
  Front front("noparallel", {{"serialize", "connections"}});
  CHECK(front.filter->thread_model() == ThreadModel::serialize_connections);
  auto layer = front.open_on(std::make_unique<MemoryBackend>(front.disk));
  CHECK(layer->facts().serializes_connections);
  CHECK_FALSE(layer->facts().can_multi_conn);
  layer->close();
}

// ---- time-limit ---------------------------------------------------------------------------------

namespace {

struct CuttableClient final : host::CallContext {
  CuttableClient() : CallContext(std::make_shared<host::ServerContext>([] {}), "memory", 1) {}
  void disconnect(bool force) override { is_cut = force; }
  bool is_cut = false;
};

} // namespace

TEST_CASE("a client past its time limit is cut off, and no other") {
  Front front("time-limit", {{"timeMs", 1000.0}});
  CuttableClient client;
  const std::string name;
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(front.disk);
  REQUIRE(below->prepare(WANTS_ALL, &front.error));
  auto layer = front.filter->open(&below, {client, name, false}, nullptr, &front.error);
  REQUIRE(layer);
  front.clock.advance(std::chrono::milliseconds(999));
  front.timers.run_due();
  CHECK_FALSE(client.is_cut);
  front.clock.advance(std::chrono::milliseconds(1));
  front.timers.run_due();
  CHECK(client.is_cut);
  layer->close();
  client.is_cut = false;
  front.clock.advance(std::chrono::hours(1));
  front.timers.run_due();
  CHECK_FALSE(client.is_cut);
}
