// Waiting for what may never answer: who gives up, and what goes on meanwhile.
#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "plugins/rbd-waiting.hpp"

namespace {

using rbd::Errands;
using rbd::Patience;

/// What an errand waits for, and the errand's property.
struct Gate {
  std::mutex mutex;
  rbd::Condition changed;
  bool is_open = false;

  void open() {
    std::lock_guard lock(mutex);
    is_open = true;
    changed.broadcast();
  }
  void pass() {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, Patience(0), [&] { return is_open; });
  }
};

} // namespace

TEST_CASE("rbd: an errand in time gives its result, and up what it owns") {
  Errands errands;
  for (unsigned seconds : {0u, 20u}) {
    auto owned = std::make_shared<int>(7);
    const std::weak_ptr<int> watched = owned;
    CHECK(errands.run<int>(Patience(seconds), [owned = std::move(owned)] { return *owned; }) == 7);
    CHECK(watched.expired());
  }
}

TEST_CASE("rbd: who gives an errand up leaves it what it owns, and the next errand waits for it") {
  Errands errands;
  auto gate = std::make_shared<Gate>();
  std::weak_ptr<Gate> watched = gate;
  CHECK_FALSE(errands.run<int>(Patience(1), [gate] { return gate->pass(), 1; }));
  auto has_run = std::make_shared<std::atomic<bool>>(false);
  CHECK_FALSE(errands.run<int>(Patience(1), [has_run] { return *has_run = true, 2; }));
  CHECK_FALSE(*has_run);
  gate->open();
  gate.reset();
  CHECK(errands.run<int>(Patience(20), [] { return 3; }) == 3);
  CHECK(watched.expired());
}

TEST_CASE("rbd: errands outlive who has sent for them") {
  auto gate = std::make_shared<Gate>();
  CHECK_FALSE(Errands().run<int>(Patience(1), [gate] { return gate->pass(), 1; }));
  gate->open();
  while (gate.use_count() > 1)
    std::this_thread::yield();
}

TEST_CASE("rbd: what an errand throws is its caller's") {
  Errands errands;
  const auto fail = []() -> int { throw std::runtime_error("no"); };
  for (unsigned seconds : {0u, 20u})
    CHECK_THROWS_AS(errands.run<int>(Patience(seconds), fail), std::runtime_error);
  CHECK(errands.run<int>(Patience(20), [] { return 4; }) == 4);
}
