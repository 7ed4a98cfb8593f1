// The filters retry and retry-request in front of a disk in memory that tests open, close and
// change.
#pragma once

#include <doctest/doctest.h>

#include <cerrno>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "filters/registry.hpp"
#include "held_backend.hpp"
#include "memory_backend.hpp"
#include "prepare.hpp"
#include "simulated_resources.hpp"
#include "test_client.hpp"

namespace reopened {

using namespace asyncnbd;
using namespace asyncnbd::backend;
using filters::FilterOptions;
using std::chrono::milliseconds;

struct Reopened : SimulatedResources {
  MemoryDisk disk{1 << 20};
  HeldBackend::Held held;
  bool is_async = false;
  TestClient client;
  std::unique_ptr<Filter> filter;
  std::unique_ptr<Backend> layer;
  std::function<void(Facts &)> change = [](Facts &) {}; // of the next that is opened
  std::function<void()> while_opening = [] {};
  std::function<void()> while_closing = [] {};
  std::function<void()> after_answer = [] {}; // inside submit
  unsigned finalized = 0;
  unsigned open_now = 0;
  unsigned reopenings = 0;
  const bool reopens;   // and so may have to wait
  unsigned refused = 0; // so many more are not opened
  bool can_finalize = true;
  bool was_readonly = false;
  bool was_given_up = false;   // opening
  unsigned told_of_client = 0; // that it has gone
  std::vector<uint8_t> lent;   // the next read is answered with these
  static inline unsigned given_back = 0;

  // Says when it is closed.
  struct Opened final : MemoryBackend {
    Opened(Reopened &of) : MemoryBackend(of.disk), all(of) {
      all.change(told_);
      told_.thread_model = all.is_async ? ThreadModel::async : ThreadModel::parallel;
      all.open_now++;
    }
    void submit(Request &request, Caller caller) override {
      if (all.reopens)
        CHECK(caller == Caller::must_not_block);
      disk_.submitted++;
      if (all.is_async) {
        all.held.gate.change([&] { all.held.requests.push_back(&request); });
        return;
      }
      const int error = perform(request);
      if (!all.lent.empty() && request.type == wire::NBD_CMD_READ)
        request.answer = {Answer::Kind::lent, all.lent.data(), [](void *) { given_back++; },
                          nullptr};
      request.complete(error);
      all.after_answer();
    }
    bool finalize() override {
      all.finalized++;
      return all.can_finalize;
    }
    void on_client_gone() override { all.told_of_client++; }
    void give_up_unanswered() override {
      std::deque<Request *> unanswered;
      all.held.gate.change([&] { unanswered.swap(all.held.requests); });
      for (Request *request : unanswered)
        request->give_up(ESHUTDOWN);
    }
    void close() override {
      all.while_closing();
      all.open_now--;
    }
    Reopened &all;
  };

  explicit Reopened(const std::string &name, const FilterOptions &options)
      : reopens(name == "retry") {
    std::string error;
    filter = filters::make_filter(name, options, resources, &error);
    REQUIRE(filter);
    given_back = 0;
  }
  void open() {
    std::string error;
    std::unique_ptr<Backend> below = std::make_unique<Opened>(*this);
    prepare(*below);
    Opening opening = client.opening();
    opening.open_again = [this](bool readonly, std::string *) { return reopen(readonly); };
    opening.give_up_opening = [this] { was_given_up = true; };
    layer = filter->open(&below, opening, nullptr, &error);
    REQUIRE(layer);
    prepare(*layer);
  }
  ~Reopened() {
    if (layer != nullptr)
      layer->close();
    CHECK(open_now == 0);
  }

  std::unique_ptr<Backend> reopen(bool readonly) {
    CHECK(open_now == 0); // the one before has been closed
    was_readonly = readonly;
    reopenings++;
    while_opening();
    if (refused > 0) {
      refused--;
      return nullptr;
    }
    auto opened = std::make_unique<Opened>(*this);
    prepare(*opened);
    return opened;
  }
  void fail_next(unsigned times, int error = EIO) {
    disk.error_of = [times, error](Request &) mutable {
      return times > 0 && times-- > 0 ? error : 0;
    };
  }
  void run_threads() {
    while (threads.run_one()) {
    }
  }
  void pass(milliseconds time) {
    clock.advance(time);
    timers.run_due();
    run_threads();
  }
};

// One that is open, and waits 10 ms before it tries again, unless the options say otherwise.
struct Retrying : Reopened {
  explicit Retrying(FilterOptions options = {}, const std::string &filter_name = "retry")
      : Reopened(filter_name, (options.emplace("delayMs", 10.0), options)) {
    open();
  }
};

} // namespace reopened
