// The stack of a request's completers: who has passed it on last hears of its end first.
#include <doctest/doctest.h>

#include <vector>

#include "backend/request.hpp"

using namespace asyncnbd::backend;

namespace {

struct Seen {
  std::vector<int> order;
  std::vector<int> errors;
};

struct Client final : Maker {
  explicit Client(Seen &seen) : seen(seen) {}
  void complete(Request &, int error) override {
    seen.order.push_back(0);
    seen.errors.push_back(error);
  }
  void give_up(Request &, int error) override {
    seen.order.push_back(-1);
    seen.errors.push_back(error);
  }
  void release(Request &) override {}
  bool client_has_gone() const override { return false; }
  Seen &seen;
};

// Moves requests by one byte, and passes on what it is told.
struct Mover final : Completer {
  Mover(Seen &seen, int number) : seen(seen), number(number) {}
  void wake_leader(Request &request) {
    request.offset++;
    REQUIRE(request.completers.push(*this, &number));
  }
  void undo(Request &request) {
    CHECK(request.completers.pop(*this) == &number);
    request.offset--;
    seen.order.push_back(number);
  }
  void complete(Request &request, int error) override {
    undo(request);
    request.complete(error + 1);
  }
  void give_up(Request &request, int error) override {
    undo(request);
    request.give_up(error);
  }
  Seen &seen;
  int number;
};

} // namespace

TEST_CASE("an answer goes back through any number of layers in turn") {
  Seen seen;
  Client client(seen);
  for (int depth : {0, 1, 4, 5, 30, 64}) {
    seen = {};
    std::vector<Mover> movers;
    for (int i = 1; i <= depth; i++)
      movers.emplace_back(seen, i);
    Request request{};
    request.completers.reset(client);
    request.offset = 1000;
    for (Mover &mover : movers)
      mover.wake_leader(request);
    CHECK(request.offset == 1000 + static_cast<uint64_t>(depth));
    request.complete(0);
    CHECK(request.offset == 1000);
    CHECK(seen.errors == std::vector<int>{depth});
    for (int i = 0; i <= depth; i++)
      CHECK(seen.order[static_cast<size_t>(i)] == depth - i);
  }
}

TEST_CASE("giving up takes the same way") {
  Seen seen;
  Client client(seen);
  Mover outer(seen, 1);
  Mover inner(seen, 2);
  Request request{};
  request.completers.reset(client);
  outer.wake_leader(request);
  inner.wake_leader(request);
  CHECK(&request.completers.maker() == &client);
  request.give_up(5);
  CHECK(seen.order == std::vector<int>{2, 1, -1});
  CHECK(seen.errors == std::vector<int>{5});
  CHECK(request.offset == 0);
}
