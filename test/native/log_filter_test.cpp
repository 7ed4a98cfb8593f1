// The filter log by itself: scripts, and a file that is a pipe which nobody reads.
#include <doctest/doctest.h>

#include <deque>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "filter_fixture.hpp"
#include "held_backend.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using filters::FilterFixture;

TEST_CASE("scripts run a few at once, and each request waits for its own") {
  FilterFixture fixture;
  auto filter = fixture.make("log", {{"script", std::string("true")}});
  REQUIRE(filter);
  // Not prepared: the line about that would wait for a thread.
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  auto layer = filter->open(&below, fixture.client.opening(), nullptr, &fixture.error);
  std::deque<TestRequest> reads;
  for (int i = 0; i < 24; i++)
    layer->submit(reads.emplace_back(wire::NBD_CMD_READ, 0, 512), Caller::may_block);
  CHECK(fixture.threads.tasks.size() == 16);
  CHECK(fixture.disk.submitted == 0);
  while (fixture.threads.run_one()) {
  }
  for (TestRequest &read : reads)
    CHECK(read.wait() == 0);
  layer->close();
}

namespace {

// A pipe in a directory of its own.
struct NamedPipe {
  std::string directory = "/tmp/asyncnbd-test-XXXXXX";
  std::string path;
  int fd = -1;

  NamedPipe() {
    REQUIRE(mkdtemp(directory.data()) != nullptr);
    path = directory + "/pipe";
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    fd = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(fd != -1);
  }
  ~NamedPipe() {
    close(fd);
    unlink(path.c_str());
    rmdir(directory.c_str());
  }
  std::string read_all() const {
    std::string text(4096, 0);
    const ssize_t bytes = read(fd, text.data(), text.size());
    text.resize(bytes < 0 ? 0 : static_cast<size_t>(bytes));
    return text;
  }
};

} // namespace

TEST_CASE("only the log's own thread waits for the reader of a log that is a pipe") {
  FilterFixture fixture;
  const NamedPipe pipe;
  auto filter = fixture.make("log", {{"file", pipe.path}});
  REQUIRE(filter);
  HeldBackend::Held held;
  std::unique_ptr<Backend> below = std::make_unique<HeldBackend>(fixture.disk, held);
  auto layer = filter->open(&below, fixture.client.opening(), nullptr, &fixture.error);

  TestRequest early(wire::NBD_CMD_READ, 0, 512); // its first line is not written yet
  layer->submit(early, Caller::may_block);
  CHECK(held.requests.empty());
  layer->give_up_unanswered();
  CHECK(early.wait() == ESHUTDOWN);

  TestRequest late(wire::NBD_CMD_READ, 512, 512); // it is below
  layer->submit(late, Caller::may_block);
  CHECK(pipe.read_all().empty());
  while (fixture.threads.run_one()) {
  }
  CHECK(held.requests.size() == 1);
  CHECK(pipe.read_all().find("Read id=2 offset=0x200") != std::string::npos);
  layer->give_up_unanswered();
  CHECK(late.wait() == ESHUTDOWN);
  CHECK(late.was_given_up);
  CHECK(pipe.read_all().empty());
  while (fixture.threads.run_one()) {
  }
  CHECK(pipe.read_all().find("...Read id=2 return=-1 error=ESHUTDOWN") != std::string::npos);
  layer->close();
}

TEST_CASE("a client is closed once its unwritten last line is given up") {
  FilterFixture fixture;
  const NamedPipe pipe;
  auto filter = fixture.make("log", {{"file", pipe.path}});
  REQUIRE(filter);
  std::unique_ptr<Backend> below = std::make_unique<MemoryBackend>(fixture.disk);
  auto layer = filter->open(&below, fixture.client.opening(), nullptr, &fixture.error);
  fixture.threads.has_any = false; // who says that it connects writes that itself
  prepare(*layer);
  CHECK(pipe.read_all().find("Connect") != std::string::npos);
  fixture.threads.has_any = true; // but they do not run
  std::atomic<bool> is_closed{false};
  std::thread closing([&] {
    layer->close();
    is_closed = true;
  });
  while (!is_closed) {
    layer->give_up_unanswered();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  closing.join();
  CHECK(pipe.read_all().empty());
  while (fixture.threads.run_one()) {
  }
  CHECK(pipe.read_all().find("Disconnect") != std::string::npos);
}
