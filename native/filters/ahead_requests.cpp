// See ahead_requests.hpp.
#include "filters/ahead_requests.hpp"

#include <algorithm>
#include <chrono>
#include <new>
#include <utility>

#include "backend/timely_close.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

using backend::Request;

void AheadRequests::on_read(uint64_t offset, uint64_t length_bytes, uint64_t size_bytes) {
  if (is_over_.load(std::memory_order_relaxed) ||
      is_looking_.test_and_set(std::memory_order_acquire))
    return;
  const AheadRange range = streams_.on_read(offset, length_bytes, size_bytes);
  if (range.begin < range.end) {
    const uint64_t end = ask(range);
    if (end < range.end)
      streams_.stop_at(end); // the next read asks for the rest
  }
  is_looking_.clear(std::memory_order_release);
}

// Returns the end of what has been requested.
uint64_t AheadRequests::ask(const AheadRange &range) {
  uint64_t at = range.begin;
  while (at < range.end) {
    AheadRequest *unused = find_unused();
    if (unused == nullptr)
      break;
    // Up to a multiple of MAX_BYTES, so that adjacent requests do not share a block of a cache.
    const uint64_t end = std::min(range.end, at / MAX_BYTES * MAX_BYTES + MAX_BYTES);
    submit(*unused, at, end);
    at = end;
  }
  return at;
}

AheadRequests::AheadRequest *AheadRequests::find_unused() {
  if (!requests_)
    requests_.reset(new (std::nothrow) std::array<AheadRequest, MAX_IN_FLIGHT>);
  if (!requests_ || of_all_->load(std::memory_order_relaxed) >= MAX_OF_ALL)
    return nullptr;
  const auto unused =
      std::find_if(requests_->begin(), requests_->end(), [](const AheadRequest &ahead) {
        return !ahead.is_in_use.load(std::memory_order_acquire);
      });
  return unused == requests_->end() ? nullptr : &*unused;
}

// The backend below moves it to another thread if it takes long.
void AheadRequests::submit(AheadRequest &ahead, uint64_t begin, uint64_t end) {
  ahead.is_in_use.store(true, std::memory_order_relaxed);
  ahead.owner = shared_from_this();
  ahead.holders.store(2, std::memory_order_relaxed);
  in_flight_.fetch_add(1, std::memory_order_relaxed);
  of_all_->fetch_add(1, std::memory_order_relaxed);
  ahead.request.completers.reset(ahead);
  ahead.request.type = wire::NBD_CMD_CACHE;
  ahead.request.offset = begin;
  ahead.request.length_bytes = end - begin;
  ahead.request.extras.reset();
  below_->submit(ahead.request, backend::Caller::must_not_block);
}

void AheadRequests::wait_until_over() {
  stop();
  for (uint32_t left; (left = in_flight_.load(std::memory_order_acquire)) > 0;)
    in_flight_.wait(left, std::memory_order_acquire);
}

// Gives up repeatedly, because a request of several steps may be between two of them. Waits for
// calls that block.
void AheadRequests::end_unused() {
  stop();
  backend::give_up_all(*below_, in_flight_);
}

// Errors are not reported: a read there will find them.
void AheadRequests::AheadRequest::complete(Request &, int) {
  const std::shared_ptr<AheadRequests> keep = owner;
  let_go();
  keep->on_end();
}

void AheadRequests::AheadRequest::give_up(Request &, int) {
  owner->on_end();
  drop_holder();
}

void AheadRequests::AheadRequest::drop_holder() {
  if (holders.fetch_sub(1, std::memory_order_acq_rel) == 1)
    let_go();
}

// Afterwards this may be used again, or be destroyed with all others.
void AheadRequests::AheadRequest::let_go() {
  const std::shared_ptr<AheadRequests> keep = std::move(owner);
  is_in_use.store(false, std::memory_order_release);
}

// For a request that has been answered or given up.
void AheadRequests::on_end() {
  of_all_->fetch_sub(1, std::memory_order_relaxed);
  if (in_flight_.fetch_sub(1, std::memory_order_acq_rel) == 1)
    in_flight_.notify_all();
}

} // namespace asyncnbd::filters
