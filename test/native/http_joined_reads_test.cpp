// Which reads become one request, in front of the HTTP client.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "plugins/http-joined-reads.hpp"

namespace {

/// In place of the client: its thread runs when the test says so.
class Caller {
public:
  bool has_memory = true;
  void call(std::function<void()> work) {
    if (!has_memory)
      throw std::bad_alloc();
    calls_.push_back(std::move(work));
  }
  void run() {
    for (const auto &call : std::exchange(calls_, {}))
      call();
  }
  size_t count() const { return calls_.size(); }

private:
  std::vector<std::function<void()>> calls_;
};

using Reads = http::JoinedReads<std::unique_ptr<int>>;

class Disk {
public:
  explicit Disk(const http::JoinLimits &limits)
      : reads_(limits, [this](const Reads::Group &group) {
          sent.push_back(std::to_string(group.offset) + "+" + std::to_string(group.count));
          reads_in.push_back(group.reads.size());
        }) {}
  void read(uint64_t offset, uint64_t count) {
    reads_.add(caller, offset, count, std::make_unique<int>(0));
  }
  void is_over() { reads_.is_over(); }
  std::vector<std::string> take() { return std::exchange(sent, {}); }

  Caller caller;
  std::vector<std::string> sent;
  std::vector<size_t> reads_in;

private:
  Reads reads_;
};

using Sent = std::vector<std::string>;

} // namespace

TEST_CASE("adjacent reads that have come at once are one request, in any order") {
  Disk disk({.requests = 4, .most_bytes = 1000});
  disk.read(200, 100);
  disk.read(0, 100);
  disk.read(100, 100);
  disk.read(400, 100);
  CHECK(disk.caller.count() == 1);
  CHECK(disk.take().empty());
  disk.caller.run();
  CHECK(disk.take() == Sent{"0+300", "400+100"});
  CHECK(disk.reads_in == std::vector<size_t>{3, 1});
}

TEST_CASE("requests are small while others can be sent, and large while reads wait") {
  Disk disk({.requests = 3, .small_bytes = 200, .most_bytes = 500});
  for (uint64_t offset = 0; offset < 300; offset += 100)
    disk.read(offset, 100);
  disk.caller.run();
  CHECK(disk.take() == Sent{"0+200", "200+100"});
  for (uint64_t offset = 1000; offset < 1900; offset += 100)
    disk.read(offset, 100);
  disk.caller.run();
  CHECK(disk.take() == Sent{"1000+500"});
  disk.read(5000, 100);
  disk.caller.run();
  CHECK(disk.take().empty()); // three are under way
  disk.is_over();
  CHECK(disk.take() == Sent{"1500+400"});
  disk.is_over();
  CHECK(disk.take() == Sent{"5000+100"});
}

TEST_CASE("no request crosses a boundary, and one read is never divided") {
  Disk disk({.requests = 8, .small_bytes = 100, .most_bytes = 100, .boundary_bytes = 400});
  disk.read(350, 50);
  disk.read(400, 50);
  disk.read(450, 350);
  disk.caller.run();
  CHECK(disk.take() == Sent{"350+50", "400+50", "450+350"});
}

TEST_CASE("reads that wait are taken upwards, so that none waits for ever") {
  Disk disk({.requests = 1, .most_bytes = 100, .patience = std::chrono::hours(1)});
  disk.read(500, 100);
  disk.caller.run();
  disk.read(100, 100);
  disk.read(900, 100);
  disk.caller.run();
  disk.is_over();
  disk.read(50, 10);
  disk.caller.run();
  disk.is_over();
  disk.is_over();
  CHECK(disk.take() == Sent{"500+100", "900+100", "50+10", "100+100"});
}

TEST_CASE("a read that others overtake again and again is next after a time") {
  Disk disk({.requests = 1, .most_bytes = 100, .patience = std::chrono::milliseconds(50)});
  disk.read(500, 100);
  disk.caller.run();
  disk.read(0, 100);
  uint64_t above = 600;
  const auto began = std::chrono::steady_clock::now();
  do {
    disk.read(above, 100);
    disk.caller.run();
    disk.is_over();
    above += 100;
  } while (disk.sent.back() != "0+100" &&
           std::chrono::steady_clock::now() - began < std::chrono::seconds(10));
  CHECK(disk.sent.back() == "0+100");
}

TEST_CASE("a read that has just come is not joined to one whose deadline is near") {
  Disk disk({.requests = 1, .most_bytes = 1000, .patience = std::chrono::milliseconds(1)});
  disk.read(500, 100);
  disk.caller.run();
  disk.read(0, 100);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  disk.read(100, 100);
  disk.caller.run();
  disk.is_over();
  disk.is_over();
  CHECK(disk.take() == Sent{"500+100", "0+100", "100+100"});
}

TEST_CASE("reads of one place are requests of their own") {
  Disk disk({.requests = 4, .most_bytes = 1000});
  disk.read(0, 100);
  disk.read(0, 100);
  disk.caller.run();
  CHECK(disk.take() == Sent{"0+100", "0+100"});
}

TEST_CASE("a read fails where the client's thread cannot be called, and the next one does not") {
  Disk disk({.requests = 4, .most_bytes = 1000});
  disk.caller.has_memory = false;
  disk.read(0, 100);
  disk.caller.has_memory = true;
  disk.read(700, 100);
  disk.caller.run();
  CHECK(disk.take() == Sent{"700+100"});
}
