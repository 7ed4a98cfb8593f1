// A request that a layer carries out with other requests, its children, one after the other: the
// common part of layers that transform requests.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

#include "backend/backend.hpp"
#include "base/mutex.hpp"
#include "base/threads.hpp"

namespace asyncnbd::backend {

// Serves one request after the other. A derived class makes the children; its functions are never
// called by two threads at once.
class SteppedRequest : private Maker {
public:
  SteppedRequest(const SteppedRequest &) = delete;
  SteppedRequest &operator=(const SteppedRequest &) = delete;

protected:
  // What comes next: the child that has been made; the request's end; the unchanged request itself,
  // which is passed on below; or nothing here, because another thread calls `run` again, perhaps
  // already.
  enum class Next : uint8_t { child, end, pass_on, elsewhere };

  explicit SteppedRequest(Backend &below) : below_(below) {}
  ~SteppedRequest() override = default;

  void begin(Request &request) { request_ = &request; }
  Request &request() const { return *request_; }
  // The last child that was made, and its error once it is answered.
  Request &child() { return child_; }
  int child_error() const { return child_error_; }
  uint64_t end_offset() const { return request_->offset + request_->length_bytes; }

  // Makes a child, with data only if there is `data`, and without extras.
  void make_child(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length_bytes,
                  uint8_t *data);

  // Submits the child, and further ones as long as they are answered at once. Not inside a
  // completion, unless nothing is submitted. Once it returns, this object may serve another
  // request.
  void run(Next next, int error, Caller caller);
  void end(int error) { run(Next::end, error, Caller::must_not_block); }

  // For on_answered_later: calls `go_on` on another thread, or here if none is available.
  template <typename GoOn> static void go_on_elsewhere(base::Threads &threads, GoOn go_on) {
    if (!threads.run([go_on] { go_on(Caller::may_block); }))
      go_on(Caller::must_not_block);
  }

private:
  // The child was answered, with `*error`: makes the next one. `*error` is the request's at its
  // end. Not inside a completion, unless `on_answered_later` calls it.
  virtual Next advance(int *error) = 0;
  // In the completion of a child after its submit: has `advance` called elsewhere, unless neither
  // it nor the next step blocks or submits anything.
  virtual void on_answered_later() = 0;
  // The request is about to be answered with `error`, or given up: releases what others wait for.
  virtual void before_end(int error) { (void)error; }
  // Nobody uses it or its memory any more.
  virtual void recycle() = 0;

  bool submit_child(Caller caller);
  void keep_words();
  void finish_given_up();
  void drop_holder();

  // The child's end.
  void complete(Request &child, int error) override;
  void give_up(Request &child, int error) override;
  void release(Request &child) override;
  bool client_has_gone() const override;

  Backend &below_;
  Request *request_ = nullptr;
  Request child_{};
  int child_error_ = 0;
  // Two threads meet here: the one that submits the child, and the one that completes it or gives
  // it up. The second goes on. The release of the first pairs with the acquire of the second.
  enum class Turn : uint8_t { submitting, submitted, completed, given_up };
  std::atomic<Turn> turn_{Turn::submitting};
  // For a child that is given up: the thread that gives it up, and the backend that may still use
  // it. The last one sees everything that the other has written.
  std::atomic<uint8_t> holders_{0};
};

// One client's stepped requests. A few are reused; the others are freed after a burst. Thread-safe.
// They are constructed with the owner and the pool.
template <typename Stepped, typename Owner> class SteppedPool {
public:
  explicit SteppedPool(Owner &owner) : owner_(owner) {}
  ~SteppedPool() { trim(); }
  SteppedPool(const SteppedPool &) = delete;
  SteppedPool &operator=(const SteppedPool &) = delete;

  // nullptr if memory is short.
  Stepped *get() {
    {
      std::lock_guard lock(mutex_);
      if (free_count_ > 0)
        return free_[--free_count_];
    }
    return new (std::nothrow) Stepped(owner_, *this);
  }

  void put(Stepped &stepped) {
    {
      std::lock_guard lock(mutex_);
      if (free_count_ < free_.size()) {
        free_[free_count_++] = &stepped;
        return;
      }
    }
    delete &stepped;
  }

  // Frees those that are not in use.
  void trim() {
    std::lock_guard lock(mutex_);
    while (free_count_ > 0)
      delete free_[--free_count_];
  }

private:
  static constexpr size_t MAX_FREE = 64;

  Owner &owner_;
  base::Mutex<base::LockRank::stepped_requests> mutex_; // guards the rest
  std::array<Stepped *, MAX_FREE> free_{};
  size_t free_count_ = 0;
};

} // namespace asyncnbd::backend
