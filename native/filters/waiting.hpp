// Requests of one client that wait in a layer until their time comes, without a thread; and the
// common part of such layers.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "backend/backend.hpp"
#include "backend/resources.hpp"
#include "base/invariant.hpp"
#include "base/mutex.hpp"
#include "base/slabs.hpp"
#include "base/timers.hpp"

namespace asyncnbd::filters {

// `State`: what is kept for each request while it waits. `Owner`, to which they belong, has two
// functions:
//
//   // The request's time has come. On the timers' thread, so it must not block.
//   void on_time(backend::Request &request, State state);
//   // The request's time will not come, because nobody waits for it any more.
//   void on_over(backend::Request &request, State state);
template <typename State, typename Owner> class WaitingRequests {
  // The same object serves one request after the other.
  struct Waiting final : base::Timer {
    explicit Waiting(WaitingRequests &all) : all(all) {}
    void on_due() override { all.on_due(*this); }

    WaitingRequests &all;
    backend::Request *request = nullptr; // nullptr: free
    State state{};
    Waiting *previous = nullptr; // in the list of waiting ones
    Waiting *next = nullptr;     // or of free ones
  };

public:
  using Slabs = base::SlabsOf<Waiting>;
  static constexpr uint32_t BYTES = sizeof(Waiting); // the memory of one

  WaitingRequests(Owner &owner, const backend::Resources &resources, Slabs &slabs)
      : owner_(owner), resources_(resources), slabs_(slabs) {}
  ~WaitingRequests() { trim(); }
  WaitingRequests(const WaitingRequests &) = delete;
  WaitingRequests &operator=(const WaitingRequests &) = delete;

  // Makes the request wait. Returns an errno, or 0; then the wait may already be over.
  int begin(backend::Request &request, State state, base::Duration time) {
    std::lock_guard lock(mutex_);
    if (is_over_)
      return ESHUTDOWN;
    if (free_ == nullptr) {
      free_ = slabs_.make(*this);
      if (free_ == nullptr)
        return ENOMEM;
      free_count_++;
    }
    // With the lock held, so that nobody ends a wait that has not begun.
    if (!resources_.timers.set(*free_, resources_.clock.now() + time))
      return ENOMEM; // for a thread: the protocol has no other error for it
    Waiting *waiting = std::exchange(free_, free_->next);
    free_count_--;
    waiting->request = &request;
    waiting->state = state;
    waiting->previous = nullptr;
    waiting->next = waiting_;
    if (waiting_ != nullptr)
      waiting_->previous = waiting;
    waiting_ = waiting;
    return 0;
  }

  // Fails all waiting requests, and later ones.
  void fail_all() {
    for (;;) {
      Waiting *waiting;
      backend::Request *request;
      State state;
      {
        std::lock_guard lock(mutex_);
        is_over_ = true;
        waiting = waiting_;
        if (waiting == nullptr)
          return;
        state = waiting->state;
        request = end(*waiting);
      }
      // Without the lock, because the timer may be about to take it. It then finds no request.
      resources_.timers.cancel(*waiting);
      {
        std::lock_guard lock(mutex_);
        put(*waiting);
      }
      owner_.on_over(*request, state);
    }
  }

  // Gives back unused memory.
  void trim() {
    std::lock_guard lock(mutex_);
    Slabs::destroy_chain(std::exchange(free_, nullptr));
    free_count_ = 0;
  }

private:
  static constexpr size_t MAX_FREE = 512; // few clients constantly have more in flight

  // On the timers' thread.
  void on_due(Waiting &waiting) {
    backend::Request *request;
    State state;
    {
      std::lock_guard lock(mutex_);
      state = waiting.state;
      request = end(waiting);
      if (request != nullptr)
        put(waiting);
    }
    if (request != nullptr)
      owner_.on_time(*request, state); // this object may be gone afterwards
  }

  // Call it with the lock held. A caller that gets the request must continue it; nullptr: another
  // thread has it.
  backend::Request *end(Waiting &waiting) {
    backend::Request *request = std::exchange(waiting.request, nullptr);
    if (request == nullptr)
      return nullptr;
    (waiting.previous == nullptr ? waiting_ : waiting.previous->next) = waiting.next;
    if (waiting.next != nullptr)
      waiting.next->previous = waiting.previous;
    return request;
  }

  // Call it with the lock held. Its timer may still be about to return, but does not look at it any
  // more.
  void put(Waiting &waiting) {
    base::invariant(waiting.request == nullptr, "a free place has no request that waits");
    if (free_count_ == MAX_FREE) {
      Slabs::destroy(&waiting);
      return;
    }
    waiting.next = std::exchange(free_, &waiting);
    free_count_++;
  }

  Owner &owner_;
  const backend::Resources &resources_;
  Slabs &slabs_;
  base::Mutex<base::LockRank::waiting> mutex_; // guards the rest
  Waiting *free_ = nullptr;
  size_t free_count_ = 0;
  Waiting *waiting_ = nullptr;
  bool is_over_ = false; // no request may begin to wait
};

// A layer in which requests wait. The wait ends when nobody waits for their answers any more or the
// server stops, just as nbdkit_nanosleep ends in nbdkit's filters.
template <typename Base, typename State> class WaitingLayer : public Base {
public:
  using Waiting = WaitingRequests<State, WaitingLayer>;

  WaitingLayer(std::unique_ptr<backend::Backend> opened, const backend::Resources &resources,
               typename Waiting::Slabs &slabs)
      : Base(std::move(opened)), waiting_(*this, resources, slabs) {}

  void on_client_gone() override {
    waiting_.fail_all();
    this->below().on_client_gone();
  }
  void on_server_stopping() override {
    waiting_.fail_all();
    this->below().on_server_stopping();
  }
  void give_up_unanswered() override {
    waiting_.fail_all();
    this->below().give_up_unanswered();
  }
  void release_idle_memory() override {
    waiting_.trim();
    this->below().release_idle_memory();
  }

protected:
  Waiting &waiting() { return waiting_; }

private:
  friend Waiting;

  virtual void on_time(backend::Request &request, State state) = 0;
  virtual void on_over(backend::Request &request, State state) {
    (void)state;
    request.complete(ESHUTDOWN);
  }

  Waiting waiting_;
};

} // namespace asyncnbd::filters
