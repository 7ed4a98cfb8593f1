// See read_now.hpp.
#include "filters/read_now.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <utility>

#include "backend/request.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Request;
using std::chrono::milliseconds;

// Of two owners, who waits for it and what is below, the last one to go ends it: what is given up
// may be used on.
class Read final : public backend::Maker {
public:
  Read(std::shared_ptr<backend::Backend> below, size_t length_bytes)
      : data(length_bytes), below_(std::move(below)) {}

  // An errno.
  static int run(const std::shared_ptr<Read> &read, const host::CallContext &context,
                 uint64_t offset) {
    Request &request = read->request_;
    request.completers.reset(*read);
    request.type = wire::NBD_CMD_READ;
    request.offset = offset;
    request.length_bytes = read->data.size();
    request.data = read->data.data();
    read->self_ = read;
    std::future<int> outcome = read->outcome_.get_future();
    read->below_->submit(request, backend::Caller::may_block);
    return read->wait(outcome, *context.server);
  }

  std::vector<uint8_t> data;

private:
  int wait(std::future<int> &outcome, const host::ServerContext &server) {
    constexpr milliseconds LOOK_AGAIN_AFTER{50};
    while (outcome.wait_for(LOOK_AGAIN_AFTER) != std::future_status::ready)
      if (server.is_stopping())
        return end(outcome);
    return outcome.get();
  }

  int end(std::future<int> &outcome) {
    constexpr milliseconds GRACE{2000};
    below_->on_server_stopping();
    milliseconds next = GRACE;
    while (outcome.wait_for(next) != std::future_status::ready) {
      below_->give_up_unanswered();
      next = backend::GIVE_UP_AGAIN_AFTER;
    }
    return outcome.get();
  }

  void complete(Request &request, int error) override {
    request.take_answer(error);
    const std::shared_ptr<Read> keep = std::move(self_); // until this has returned
    outcome_.set_value(error);
  }
  // On the thread that waits.
  void give_up(Request &, int error) override { outcome_.set_value(error); }
  void release(Request &) override { const std::shared_ptr<Read> keep = std::move(self_); }
  bool client_has_gone() const override { return false; }

  const std::shared_ptr<backend::Backend> below_; // which may use what has been given up
  Request request_{};
  std::shared_ptr<Read> self_; // while it is below
  std::promise<int> outcome_;
};

} // namespace

// With all of the blocks that it is in, where what is below takes nothing else.
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
