// A flush of other clients' connections, on behalf of one that flushes.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "backend/backend.hpp"
#include "base/threads.hpp"
#include "filters/multi_conn_group.hpp"

namespace asyncnbd::filters {

class FlushOthers;

// Whose client flushes.
class FlushOwner {
public:
  // Each of them is flushed: what is left to do. Not inside a completion, unless nobody may block.
  virtual void on_others_flushed(backend::Request &request, uint64_t time,
                                 backend::Caller caller) = 0;
  // Those that are not done with, with the lock of Members.
  std::vector<FlushOthers *> flushing;

protected:
  ~FlushOwner() = default;
};

// One after the other, until one fails. Its owner may be gone before it is: then its request has
// been answered (abandon), as a flush needs none of its client's memory.
class FlushOthers final : private backend::Maker {
public:
  // `others`: held, and let go by it. `time`: when the flush began.
  FlushOthers(FlushOwner &owner, std::shared_ptr<Members> members, std::vector<SharedMember> others,
              backend::Request &request, uint64_t time, base::Threads &threads);

  // Begins, and deletes itself at the end.
  void begin(backend::Caller caller);

  // Answers the requests of all that their owner still waits for.
  static void abandon_all(FlushOwner &owner, Members &members);

private:
  void run(backend::Caller caller);
  bool submit_next(backend::Caller caller);
  void end(int error, backend::Caller caller);
  void end_given_up();
  void drop_holder();
  backend::Request *claim();

  // Of the child.
  void complete(backend::Request &child, int error) override;
  void give_up(backend::Request &child, int error) override;
  void release(backend::Request &child) override;
  bool client_has_gone() const override { return false; } // it is done for all

  FlushOwner &owner_;
  const std::shared_ptr<Members> members_;
  const std::vector<SharedMember> others_;
  backend::Request
      *request_; // with the lock of Members; nullptr: answered, and the owner may be gone
  const uint64_t time_;
  base::Threads &threads_;
  size_t next_ = 0;
  backend::Request child_{};
  int child_error_ = 0;
  // Who comes second goes on: the thread that submits the child, or the one that completes it or
  // gives it up. The release of the first pairs with the acquire of the second.
  enum class Turn : uint8_t { submitting, submitted, completed, given_up };
  std::atomic<Turn> turn_{Turn::submitting};
  // Of a child that is given up: who gives it up, and who may still use it. The last one finds this
  // as the other has left it.
  std::atomic<uint8_t> holders_{0};
};

} // namespace asyncnbd::filters
