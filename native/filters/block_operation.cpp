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

bool BlockOperation::is_to_stop() const {
  if (block_client_.is_given_up.load(std::memory_order_relaxed))
    return true;
  const uint16_t type = request().type;
  return (type == wire::NBD_CMD_WRITE_ZEROES || type == wire::NBD_CMD_TRIM ||
          type == wire::NBD_CMD_CACHE) &&
         request().completers.maker().client_has_gone();
}

void BlockOperation::go_on(backend::Caller caller) {
  int error = has_child_ ? child_error() : 0;
  const Next next = advance(&error);
  SteppedRequest::run(next, error, caller);
}

} // namespace asyncnbd::filters
