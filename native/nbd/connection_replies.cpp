// What becomes of a connection's requests once they are answered: backend::Maker and
// ReplyListener. See connection.hpp.
#include "nbd/connection.hpp"

#include <cinttypes>
#include <cstring>

#include "base/error_numbers.hpp"
#include "host/log.hpp"
#include "nbd/reply_encoding.hpp"

namespace asyncnbd::nbd {

namespace {

// From here on, sending borrowed data at once, by a system call of its own, beats a copy.
constexpr uint32_t DIRECT_BYTES = 32 << 10;
// A failing disk fails thousands of times; its log says the same each time.
constexpr unsigned MAX_FAILURES_REPORTED = 10;

} // namespace

void Connection::complete(backend::Request &completed, int error) {
  auto &request = static_cast<PendingRequest &>(completed);
  request.error = error;
  if (request.answer.kind == backend::Answer::Kind::borrowed && send_borrowed(&request))
    return;
  encode_answer(request, facts_.block_bytes, reader_->buffers());
  if (request.encoded || request.type == wire::NBD_CMD_BLOCK_STATUS)
    charge_encoded(request);
  if (request.may_have_holes && request.encoded)
    sparse_hint_.found_hole();
  else if (request.data_until > 0)
    sparse_hint_.found_data(request.offset, request.data_until);
  if (request.error != 0)
    report_failure(request);
  answer(&request);
}

// What a reply is that was made, in the place of what it was expected to be.
void Connection::charge_encoded(PendingRequest &request) {
  const uint64_t expected_bytes =
      request.type == wire::NBD_CMD_BLOCK_STATUS ? EXPECTED_STATUS_BYTES : 0;
  const uint64_t bytes = request.encoded ? request.encoded->made_bytes : 0;
  if (bytes > expected_bytes)
    memory_->add(request.charge, bytes - expected_bytes);
  else
    memory_->shrink(request.charge, expected_bytes - bytes);
}

// Once it is queued, the reply may be sent by anyone and be the connection's last.
void Connection::answer(PendingRequest *request) {
  if (led_ == this) { // which holds the connection, and flushes after the call
    replies_->push(request);
    return;
  }
  std::shared_ptr<Connection> keep = self_; // finish cannot have come before
  replies_->push(request);
  if (replies_->pending_bytes() >= FLUSH_BYTES || !host::join_reply_batch(keep))
    replies_->flush(WhenFull::wake_leader);
}

// At once, while its owner waits. False: its data have been copied instead.
bool Connection::send_borrowed(PendingRequest *request) {
  if (led_ != this && request->length_bytes >= DIRECT_BYTES) {
    std::shared_ptr<Connection> keep = self_;
    if (replies_->send_borrowed(request))
      return true;
  }
  request->take_answer(request->error);
  return false;
}

void Connection::give_up(backend::Request &completed, int error) {
  auto &request = static_cast<PendingRequest &>(completed);
  request.is_given_up = true;
  request.pin = self_;
  request.error = error;
  answer(&request);
}

void Connection::release(backend::Request &completed) {
  auto &request = static_cast<PendingRequest &>(completed);
  if (request.holders.fetch_sub(1, std::memory_order_acq_rel) > 1)
    return;
  std::shared_ptr<void> pin = std::move(request.pin); // perhaps the last one
  dispose(&request, &request, request.charge);
}

bool Connection::client_has_gone() const {
  return client_has_left_.load(std::memory_order_relaxed) || transport_->is_aborted();
}

void Connection::report_failure(const PendingRequest &request) {
  counters_.count_failure(request);
  uint32_t sent = wire::error_from_errno(request.error, request.flags);
  if (sent == wire::NBD_ENOTSUP) // a fast zero refused as it should be
    return;
  unsigned reported = failures_reported_.fetch_add(1, std::memory_order_relaxed);
  if (reported >= MAX_FAILURES_REPORTED && !host::log_is_verbose())
    return;
  host::ContextScope scope(client_.get()); // names the plugin and the connection in the line
  host::log_error(
      "%s offset=%" PRIu64 " count=%" PRIu64 ": %s; client was sent %s%s",
      wire::command_name(request.type), request.offset, request.length_bytes,
      base::error_text(request.error).c_str(), base::error_name(static_cast<int>(sent)).c_str(),
      reported + 1 == MAX_FAILURES_REPORTED ? "; further failures on this connection are not logged"
                                            : "");
}

// One look at the clock for all replies of a batch.
void Connection::on_taken(const PendingRequest *first) {
  if (latencies_ == nullptr)
    return;
  const base::Time now = runtime_.clock.now();
  for (const PendingRequest *request = first; request != nullptr; request = request->next)
    if (request->type < LatencyCounters::COMMANDS)
      latencies_->record(latencies_place_, request->type, now - request->received_at);
}

void Connection::on_sent(PendingRequest *first, uint32_t count) {
  PendingRequest **link = &first;
  PendingRequest *last_kept = nullptr;
  MemoryCharge charge;
  for (PendingRequest *request = first; request != nullptr; request = *link) {
    request->answer.give_back_data();
    request->pages.reset();
    if (request->is_given_up) {
      *link = request->next;
      release(*request);
      continue;
    }
    charge.add(request->charge);
    last_kept = request;
    link = &request->next;
  }
  if (last_kept != nullptr)
    dispose(first, last_kept, charge);
  live_.fetch_sub(count);
  if (leader_waits_.load())
    transport_->wake();
}

// Frees what a chain of requests has held.
void Connection::dispose(PendingRequest *first, PendingRequest *last, const MemoryCharge &charge) {
  for (PendingRequest *request = first;; request = request->next) {
    request->reply_buffer->unref();
    if (request->payload_buffer != nullptr)
      request->payload_buffer->unref();
    // May be large, and what was charged for them goes back.
    request->extras.reset();
    request->encoded.reset();
    if (request == last)
      break;
  }
  reader_->recycle(first, last);
  memory_->give_back(charge);
}

} // namespace asyncnbd::nbd
