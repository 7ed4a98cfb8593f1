// Native filters that change what a request is or where it goes, by themselves, in front of a disk
// in memory.
#include <doctest/doctest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "filters/registry.hpp"
#include "held_backend.hpp"
#include "memory_backend.hpp"
#include "simulated_resources.hpp"
#include "test_client.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;
using namespace asyncnbd::wire;
using filters::FilterOptions;

namespace {

// A filter in front of the disk, and what comes there: command, flags, offset and length.
struct Front : SimulatedResources {
  struct Call {
    uint16_t type;
    uint16_t flags;
    uint64_t offset;
    uint64_t length_bytes;
    bool operator==(const Call &) const = default;
  };

  MemoryDisk disk{1 << 20};
  TestClient client;
  std::string error;
  std::vector<Call> calls;
  std::unique_ptr<Filter> filter;

  explicit Front(const char *name, const FilterOptions &options = {}) {
    disk.error_of = [this](Request &request) {
      calls.push_back({request.type, request.flags, request.offset, request.length_bytes});
      return 0;
    };
    filter = filters::make_filter(name, options, resources, &error);
    REQUIRE_MESSAGE(filter, error);
  }

  std::unique_ptr<Backend> open_on(std::unique_ptr<Backend> below) {
    std::unique_ptr<Backend> opened = filter->open(&below, client.opening(), nullptr, &error);
    if (opened && opened->prepare(WANTS_ALL, &error))
      return opened;
    return nullptr;
  }
  std::unique_ptr<Backend> open() { return open_on(std::make_unique<MemoryBackend>(disk)); }
};

// With these flags, as a client sends it; what it has become is undone when it comes back.
int send(Backend &backend, uint16_t type, uint16_t flags, uint64_t offset, uint64_t length_bytes,
         uint8_t fill = 0) {
  TestRequest request(type, offset, length_bytes, fill);
  request.flags = flags;
  const int error = request.run(backend);
  CHECK(request.type == type);
  CHECK(request.flags == flags);
  CHECK(request.offset == offset);
  CHECK(request.length_bytes == length_bytes);
  return error;
}

} // namespace

TEST_CASE("write zeroes requests are passed on with the no-hole flag, and no other request is") {
  Front front("nozero", {{"mode", "notrim"}, {"fast", "ignore"}});
  auto layer = front.open();
  CHECK(send(*layer, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 512, 1024) == 0);
  CHECK(front.calls ==
        std::vector<Front::Call>{{NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 512, 1024}});
  layer->close();
}

TEST_CASE("emulated zeroes become writes, and fast zeroes fail") {
  Front front("nozero", {{"mode", "emulate"}});
  auto layer = front.open();
  CHECK(layer->facts().zero == Support::emulate);
  CHECK(layer->facts().can_fast_zero);
  CHECK(send(*layer, NBD_CMD_WRITE_ZEROES, 0, 512, 1024) == 0);
  CHECK(send(*layer, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 512, 1024) == ENOTSUP);
  CHECK(front.calls == std::vector<Front::Call>{{NBD_CMD_WRITE, 0, 512, 1024}});
  layer->close();
}

TEST_CASE("with forced FUA each write below has FUA, even one received in place") {
  Front front("fua", {{"mode", "force"}});
  auto layer = front.open();
  TestRequest write(NBD_CMD_WRITE, 0, 512, 1);
  REQUIRE(layer->reserve(write).data != nullptr);
  CHECK(write.flags == 0);
  write.is_reserved = true;
  CHECK(write.run(*layer) == 0);
  CHECK(send(*layer, NBD_CMD_FLUSH, 0, 0, 0) == 0);
  CHECK(front.calls == std::vector<Front::Call>{{NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 512}});
  layer->close();
}

TEST_CASE("emulated FUA is a write followed by a flush") {
  Front front("fua", {{"mode", "emulate"}});
  auto layer = front.open();
  CHECK(layer->facts().fua == Support::emulate);
  CHECK(send(*layer, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 512, 1) == 0);
  CHECK(front.calls ==
        std::vector<Front::Call>{{NBD_CMD_WRITE, 0, 0, 512}, {NBD_CMD_FLUSH, 0, 0, 0}});
  layer->close();
}

TEST_CASE("when a request is given up, changed flags are the client's again") {
  MemoryDisk disk{1 << 20};
  HeldBackend::Held held;
  Front front("fua", {{"mode", "force"}});
  auto layer = front.open_on(std::make_unique<HeldBackend>(disk, held));
  TestRequest write(NBD_CMD_WRITE, 0, 512, 1);
  layer->submit(write, Caller::may_block);
  CHECK(write.flags == NBD_CMD_FLAG_FUA);
  layer->give_up_unanswered();
  CHECK(write.wait() == ESHUTDOWN);
  CHECK(write.was_given_up);
  CHECK(write.flags == 0);
  layer->close();
}

TEST_CASE("a part of a disk has its own offsets and shows nothing outside it") {
  Front front("offset", {{"offset", 4096.0}, {"range", 8192.0}});
  auto layer = front.open();
  REQUIRE(layer);
  CHECK(layer->facts().size_bytes == 8192);
  CHECK(send(*layer, NBD_CMD_WRITE, 0, 100, 512, 7) == 0);
  CHECK(front.disk.bytes[4195] == 0);
  CHECK(front.disk.bytes[4196] == 7);
  TestRequest read(NBD_CMD_READ, 100, 512);
  CHECK(layer->reserve(read).data == &front.disk.bytes[4196]);
  CHECK(read.offset == 100);

  front.disk.error_of = [](Request &request) {
    request.make_extras().error_offset = request.offset + 10;
    return EIO;
  };
  TestRequest failing(NBD_CMD_READ, 100, 512);
  CHECK(failing.run(*layer) == EIO);
  CHECK(failing.extras->error_offset == 110);
  layer->close();
}

TEST_CASE("a part that reaches beyond the disk is refused") {
  Front front("offset", {{"offset", 4096.0}, {"range", 1048576.0}});
  CHECK(front.open() == nullptr);
  CHECK(front.error.find("1048576") != std::string::npos);
}

TEST_CASE("extents beyond the end of a part are not reported") {
  Front front("offset", {{"offset", 512.0}, {"range", 1024.0}});
  front.disk.error_of = [](Request &request) {
    for (ContextStatus &status : request.extras->statuses)
      status.extents = {{100'000, 3}};
    return EIO; // so that these stay
  };
  auto layer = front.open();
  TestRequest status(NBD_CMD_BLOCK_STATUS, 0, 1024);
  status.run(*layer);
  REQUIRE(status.extras->statuses[0].extents.size() == 1);
  CHECK(status.extras->statuses[0].extents[0].length_bytes == 1024);
  layer->close();
}

TEST_CASE("beyond the end of a disk reads give zeroes, and only zeroes can be written") {
  Front front("truncate", {{"size", 2097152.0}});
  const uint64_t end = 1 << 20;
  front.disk.bytes.assign(end, 5);
  auto layer = front.open();
  REQUIRE(layer);
  CHECK(layer->facts().size_bytes == 2 * end);

  TestRequest across(NBD_CMD_READ, end - 512, 1024, 9);
  CHECK(layer->reserve(across).data == nullptr);
  CHECK(across.run(*layer) == 0);
  CHECK(across.length_bytes == 1024);
  CHECK(std::vector<uint8_t>(across.content.begin(), across.content.begin() + 512) ==
        std::vector<uint8_t>(512, 5));
  CHECK(std::vector<uint8_t>(across.content.begin() + 512, across.content.end()) ==
        std::vector<uint8_t>(512, 0));

  front.calls.clear();
  CHECK(send(*layer, NBD_CMD_READ, 0, end + 512, 512, 9) == 0);
  CHECK(send(*layer, NBD_CMD_WRITE, 0, end, 512, 0) == 0);
  CHECK(send(*layer, NBD_CMD_WRITE, 0, end, 512, 1) == ENOSPC);
  CHECK(send(*layer, NBD_CMD_TRIM, 0, end, 512) == 0);
  CHECK(send(*layer, NBD_CMD_CACHE, 0, end, 512) == 0);
  CHECK(front.calls.empty());
  CHECK(send(*layer, NBD_CMD_WRITE, 0, end - 512, 1024, 0) == 0);
  CHECK(send(*layer, NBD_CMD_WRITE, 0, end - 512, 1024, 1) == ENOSPC);
  CHECK(send(*layer, NBD_CMD_WRITE_ZEROES, 0, end - 512, 1024) == 0);
  CHECK(front.calls == std::vector<Front::Call>{{NBD_CMD_WRITE, 0, end - 512, 512},
                                                {NBD_CMD_WRITE, 0, end - 512, 512},
                                                {NBD_CMD_WRITE_ZEROES, 0, end - 512, 512}});

  TestRequest status(NBD_CMD_BLOCK_STATUS, end - 512, 2048);
  CHECK(status.run(*layer) == 0);
  CHECK(status.extras->statuses[0].extents[0].length_bytes == 512);
  TestRequest hole(NBD_CMD_BLOCK_STATUS, end + 512, 512);
  CHECK(hole.run(*layer) == 0);
  CHECK(hole.extras->statuses[0].extents[0].length_bytes == end - 512);
  CHECK(hole.extras->statuses[0].extents[0].flags == 3);
  layer->close();
}

TEST_CASE("a size is rounded up, then down") {
  Front front("truncate", {{"size", 100'000.0}, {"roundUp", 65536.0}, {"roundDown", 131072.0}});
  auto layer = front.open();
  CHECK(layer->facts().size_bytes == 131072);
  layer->close();
}

TEST_CASE("clients beyond the limit are refused") {
  Front front("limit", {{"limit", 2.0}});
  auto first = front.open();
  auto second = front.open();
  REQUIRE(second);
  CHECK(front.open() == nullptr);
  CHECK(front.error.find("limit") != std::string::npos);
  first->close();
  auto third = front.open();
  CHECK(third != nullptr);
  second->close();
  third->close_unused();
}

TEST_CASE("a filter can hide extents and caching") {
  Front noextents("noextents");
  auto layer = noextents.open();
  CHECK_FALSE(layer->facts().can_extents);
  TestRequest status(NBD_CMD_BLOCK_STATUS, 0, 4096);
  CHECK(status.run(*layer) == 0);
  CHECK(status.extras->statuses[0].extents.size() == 1);
  CHECK(status.extras->statuses[0].extents[0].flags == 0);
  CHECK(noextents.calls.empty());
  layer->close();

  Front nocache("nocache", {{"mode", "nop"}});
  auto caching = nocache.open();
  CHECK(caching->facts().cache == Support::native);
  CHECK(send(*caching, NBD_CMD_CACHE, 0, 0, 4096) == 0);
  CHECK(nocache.calls.empty());
  caching->close();
}
