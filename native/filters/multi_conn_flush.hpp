// A flush of other clients, on behalf of one that flushes.
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

// The client that flushes.
class FlushOwner {
public:
  // Called when all others have been flushed, to do the rest. Inside a completion only if `caller`
  // must not block.
  virtual void on_others_flushed(backend::Request &request, uint64_t time,
                                 backend::Caller caller) = 0;
  // Flushes of others that have not ended. Guarded by the lock of Members.
  std::vector<FlushOthers *> flushing;

protected:
  ~FlushOwner() = default;
};

// The flush of one other client. If it is given up, the backend below may go on using it, perhaps
// for ever: nobody waits for that, and it keeps alive what it needs.
class ChildFlush final : private backend::Maker {
public:
  ChildFlush(FlushOthers &flush, std::shared_ptr<backend::Backend> below);

  // True: it has ended already. False: it tells `flush` of its end, and both may be gone by now.
  bool submit(backend::Caller caller);

  // Call it once this has ended. Returns the error, with a message for the client, if there is one.
  // Afterwards this object is gone.
  int take_end(std::string *error_text);

private:
  // One thread submits it, and one completes it or gives it up. The one that comes second goes on;
  // its acquire pairs with the release of the first.
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
  // If it is given up, take_end and the backend that may still use it hold it. The one that drops
  // it last sees everything that the other has written.
  std::atomic<uint8_t> holders_{2};
};

// Flushes the others one after the other, until one fails. Its owner may be gone before it ends:
// then abandon_all has answered its request, and it needs none of that client's memory.
class FlushOthers final {
public:
  // `others`: from Members::hold_others; this lets go of them. `time`: when the flush began.
  FlushOthers(FlushOwner &owner, std::shared_ptr<Members> members,
              const std::vector<SharedMember> &others, backend::Request &request, uint64_t time,
              base::Threads &threads);

  // Begins, and deletes itself at the end.
  void begin(backend::Caller caller);

  // Answers all requests that the owner still waits for. No more members are flushed for them.
  static void abandon_all(FlushOwner &owner, Members &members);

  // The memory that one takes at a time.
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

  SharedMember member_; // the one that is being flushed
  int error_ = 0;
  std::string error_text_;
};

constexpr uint32_t FlushOthers::bytes() {
  return sizeof(FlushOthers) + sizeof(ChildFlush);
}

} // namespace asyncnbd::filters
