// See block_operation.hpp.
#include "filters/block_operation.hpp"

#include <cerrno>

namespace asyncnbd::filters {

void BlockOperation::give_up(BlockClient &client, store::BlockWork &work) {
  client.is_given_up.store(true, std::memory_order_relaxed);
  const auto is_of_client = [&client](store::BlockTask &task) {
    return &static_cast<BlockOperation &>(task).block_client_ == &client;
  };
  for (store::BlockTask *task : work.withdraw(is_of_client)) {
    auto &waiting = static_cast<BlockOperation &>(*task);
    waiting.has_claim_ = false;
    waiting.end(ESHUTDOWN);
  }
}

void BlockOperation::go_on(backend::Caller caller) {
  int error = has_child_ ? child_error() : 0;
  const Next next = advance(&error);
  SteppedRequest::run(next, error, caller);
}

} // namespace asyncnbd::filters
