// The common part of the operations of filters that keep blocks of a disk in a file: a request of
// several steps, which may wait for its claim on blocks, and its client.
#pragma once

#include <atomic>
#include <utility>

#include "backend/stepped_request.hpp"
#include "filters/block_status.hpp"
#include "filters/blocks.hpp"
#include "store/block_work.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

// One client.
struct BlockClient {
  backend::Backend &below;
  std::atomic<bool> is_given_up{false}; // pairs with nothing: later requests are given up below
};

class BlockOperation : public store::BlockTask, protected backend::SteppedRequest {
public:
  // The client's operations that wait for claims fail at once, others at their next step.
  static void give_up(BlockClient &client, store::BlockWork &work);

protected:
  explicit BlockOperation(BlockClient &client)
      : SteppedRequest(client.below), block_client_(client) {}
  ~BlockOperation() override = default;

  void go_on(backend::Caller caller);

  // For an operation that could go on at once on its thread: whether it has now done so much, with
  // these bytes, that others that wait for a thread come first.
  bool is_long_work(uint64_t bytes) {
    constexpr uint64_t MAX_BYTES_AT_ONCE = 64 << 20;
    worked_bytes_ += bytes;
    if (worked_bytes_ < MAX_BYTES_AT_ONCE)
      return false;
    worked_bytes_ = 0;
    return true;
  }

  // True: the operation was given up, or is a long request of a client that has gone. The rest of
  // it is not done.
  bool is_to_stop() const;

  // The next question of a block status to the backend below, or the end. `known`: see BlockStatus.
  template <typename Function> Next ask_status(const Blocks &blocks, Function known) {
    auto question = status_.next(request(), blocks, known);
    if (!question)
      return Next::end;
    make_child(wire::NBD_CMD_BLOCK_STATUS, request().flags, question->offset,
               question->length_bytes, nullptr);
    child().make_extras().statuses.push_back(std::move(question->status));
    return Next::child;
  }

  bool has_child_ = false;
  bool has_claim_ = false;
  uint64_t worked_bytes_ = 0; // see is_long_work
  BlockStatus status_;

private:
  Next advance(int *error) override = 0;
  void run() override { go_on(backend::Caller::must_not_block); }

  BlockClient &block_client_;
};

} // namespace asyncnbd::filters
