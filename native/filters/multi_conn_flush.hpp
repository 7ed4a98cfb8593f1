// A flush of other clients' connections, on behalf of one that flushes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
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

// The flush of one of them. What is below may go on using it when it has been given up, which may
// be for ever: nobody waits for that, and it keeps what it needs.
class ChildFlush final : private backend::Maker {
public:
  ChildFlush(FlushOthers &flush, std::shared_ptr<backend::Backend> below);

  // False: `flush` hears of its end, and both may be gone. True: it has ended already.
  bool submit(backend::Caller caller);

  // Of one that has ended: its error, with words for the client, if there are some. Then it is
  // gone.
  int take_end(std::string *error_text);

private:
  // Of the thread that submits it and the one that completes it or gives it up, the second goes on.
  // The release of the first pairs with its acquire.
  enum class Turn : uint8_t { submitting, submitted, ended };

  void complete(backend::Request &, int error) override { end(error); }
  void give_up(backend::Request &request, int error) override;
  void release(backend::Request &) override { drop_holder(); }
  bool client_has_gone() const override { return false; } // it is done for all
  void end(int error);
  void drop_holder();

  FlushOthers &flush_; // until its end
  const std::shared_ptr<backend::Backend> below_;
  backend::Request request_{};
  int error_ = 0;
  bool is_given_up_ = false;
  std::atomic<Turn> turn_{Turn::submitting};
  // Of one that is given up: both who takes its end and who may still use it hold it. The second of
  // them finds this as the first has left it.
  std::atomic<uint8_t> holders_{2};
};

// One after the other, until one fails. Its owner may be gone before it is: then its request has
// been answered (abandon), as a flush needs none of its client's memory.
class FlushOthers final {
public:
  // `others`: held, and let go by it. `time`: when the flush began.
  FlushOthers(FlushOwner &owner, std::shared_ptr<Members> members,
              const std::vector<SharedMember> &others, backend::Request &request, uint64_t time,
              base::Threads &threads);

  // Begins, and deletes itself at the end.
  void begin(backend::Caller caller);

  // Answers the requests of all that their owner still waits for. No further one is flushed then.
  static void abandon_all(FlushOwner &owner, Members &members);

  // What one takes at a time.
  static constexpr uint32_t bytes();

private:
  friend class ChildFlush;

  void run(backend::Caller caller);
  bool take_next(std::shared_ptr<backend::Backend> *below);
  void end_one(int error);
  void on_child_ended(ChildFlush &child);
  void end(backend::Caller caller);

  FlushOwner &owner_;
  const std::shared_ptr<Members> members_;
  const uint64_t time_;
  base::Threads &threads_;
  // With the lock of Members:
  std::vector<SharedMember> to_come_; // the next one last
  backend::Request *request_;         // nullptr: answered, and the owner may be gone

  SharedMember member_; // which is being flushed
  int error_ = 0;
  std::string error_text_;
};

constexpr uint32_t FlushOthers::bytes() {
  return sizeof(FlushOthers) + sizeof(ChildFlush);
}

} // namespace asyncnbd::filters
