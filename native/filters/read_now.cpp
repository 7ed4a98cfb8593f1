// See read_now.hpp.
#include "filters/read_now.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <poll.h>
#include <utility>

#include "backend/request.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Request;
using std::chrono::milliseconds;

// Owned by the waiting thread, the answering one and the backend below; the last of them frees it.
// The backend may go on using it after it was given up.
class Read final : public backend::Maker {
public:
  Read(std::shared_ptr<backend::Backend> below, size_t length_bytes)
      : data(length_bytes), below_(std::move(below)) {}

  // Returns 0 or an errno.
  static int run(const std::shared_ptr<Read> &read, const host::CallContext &context,
                 uint64_t offset) {
    Request &request = read->request_;
    request.completers.reset(*read);
    request.type = wire::NBD_CMD_READ;
    request.offset = offset;
    request.length_bytes = read->data.size();
    request.data = read->data.data();
    read->unanswered_ = read;
    read->in_use_ = read;
    std::future<int> outcome = read->outcome_.get_future();
    read->below_->submit(request, backend::Caller::may_block);
    return read->wait(outcome, context);
  }

  std::vector<uint8_t> data;

private:
  int wait(std::future<int> &outcome, const host::CallContext &context) {
    constexpr milliseconds LOOK_AGAIN_AFTER{50};
    const bool has_peer = context.peer_fd != -1;
    while (outcome.wait_for(LOOK_AGAIN_AFTER) != std::future_status::ready) {
      if (context.server->is_stopping()) {
        below_->on_server_stopping();
        return end(outcome);
      }
      if (has_peer && has_hung_up(context.peer_fd)) {
        below_->on_client_gone();
        return end(outcome);
      }
    }
    return outcome.get();
  }

  // -1: already closed.
  static bool has_hung_up(int fd) {
    pollfd look{fd, POLLRDHUP, 0};
    return fd == -1 || ::poll(&look, 1, 0) == 1;
  }

  int end(std::future<int> &outcome) {
    constexpr milliseconds GRACE{2000};
    milliseconds next = GRACE;
    while (outcome.wait_for(next) != std::future_status::ready) {
      below_->give_up_unanswered();
      next = backend::GIVE_UP_AGAIN_AFTER;
    }
    return outcome.get();
  }

  void complete(Request &request, int error) override {
    request.take_answer(error);
    const std::shared_ptr<Read> used = std::move(in_use_); // kept until this returns
    const std::shared_ptr<Read> answered = std::move(unanswered_);
    outcome_.set_value(error);
  }
  // Another thread may release it meanwhile.
  void give_up(Request &, int error) override {
    const std::shared_ptr<Read> answered = std::move(unanswered_);
    outcome_.set_value(error);
  }
  void release(Request &) override { const std::shared_ptr<Read> used = std::move(in_use_); }
  bool client_has_gone() const override { return false; }

  const std::shared_ptr<backend::Backend> below_; // it may use a read that was given up
  Request request_{};
  std::shared_ptr<Read> unanswered_; // until it has been answered or given up
  std::shared_ptr<Read> in_use_;     // until nobody below uses it
  std::promise<int> outcome_;
};

} // namespace

// Reads whole blocks, if the backend below takes nothing else.
int read_now(const std::shared_ptr<backend::Backend> &below, const host::CallContext &context,
             uint64_t offset, std::vector<uint8_t> *bytes) {
  const backend::Facts &facts = below->facts();
  const bool takes_blocks = facts.block_sizes_bind && facts.block_sizes;
  const uint64_t block = takes_blocks ? std::max(facts.block_sizes->minimum, 1U) : 1;
  const uint64_t begin = offset / block * block;
  const uint64_t end = (offset + bytes->size() + block - 1) / block * block;
  const auto read = std::make_shared<Read>(below, std::min(end, facts.size_bytes) - begin);
  const int error = Read::run(read, context, begin);
  if (error == 0)
    std::memcpy(bytes->data(), read->data.data() + (offset - begin), bytes->size());
  return error;
}

} // namespace asyncnbd::filters
