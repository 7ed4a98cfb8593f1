// See completions.hpp.
#include "nbd/completions.hpp"

#include <cinttypes>
#include <cstring>

#include "base/error_numbers.hpp"
#include "base/invariant.hpp"
#include "host/log.hpp"
#include "nbd/reply_encoding.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::nbd {

namespace {

using Stage = PendingRequest::Stage;

// From here on, sending borrowed data at once, by a system call of its own, beats a copy.
constexpr uint32_t DIRECT_BYTES = 32 << 10;
// A failing disk fails thousands of times; its log says the same each time.
constexpr unsigned MAX_FAILURES_REPORTED = 10;

// The payload of a write from here on may have come long after its header.
constexpr uint64_t TIMED_FROM_PAYLOAD_BYTES = 64 << 10;

} // namespace

constinit thread_local const Completions *Completions::led_ = nullptr;

Completions::Completions(Transmission &transmission, MemoryAccount &memory, ClientWaits &waits,
                         PollPlace &place)
    : shared_(transmission), memory_(memory), waits_(waits), place_(place),
      requests_(shared_.resources, *this, shared_.settings.style),
      replies_(shared_.transport, *this), latencies_(shared_.settings.latencies),
      latencies_place_(latencies_ ? latencies_->next_place() : 0) {}

void Completions::begin(PendingRequest &request) {
  request.enter(Stage::incoming, Stage::in_flight);
  live_.fetch_add(1, std::memory_order_relaxed);
  shared_.counters.count(request);
  if (latencies_ != nullptr && request.length_bytes >= TIMED_FROM_PAYLOAD_BYTES &&
      request.type == wire::NBD_CMD_WRITE)
    request.received_at = shared_.runtime.clock.now(); // its payload took its time
}

void Completions::refuse(PendingRequest &request, int error) {
  request.error = error;
  shared_.counters.count_failure(request);
  if (request.is_reserved && request.type == wire::NBD_CMD_WRITE)
    shared_.backend.unreserve(request);
  push(&request);
}

void Completions::push(PendingRequest *request) {
  request->enter(Stage::in_flight, Stage::answered);
  replies_.push(request);
}

void Completions::complete(backend::Request &completed, int error) {
  auto &request = static_cast<PendingRequest &>(completed);
  request.error = error;
  if (request.answer.kind == backend::Answer::Kind::borrowed && send_borrowed(&request))
    return;
  encode_answer(request, shared_.facts.block_bytes, requests_.buffers());
  if (request.encoded || wire::answer_bytes(request.type) > 0)
    charge_encoded(request);
  if (request.may_have_holes && request.encoded)
    shared_.sparse_hint.found_hole();
  else if (request.data_until > 0)
    shared_.sparse_hint.found_data(request.offset, request.data_until);
  if (request.error != 0)
    report_failure(request);
  answer(&request);
}

// What a reply is that was made, in the place of what it was expected to be.
void Completions::charge_encoded(PendingRequest &request) {
  const uint64_t expected_bytes = wire::answer_bytes(request.type);
  const uint64_t bytes = request.encoded ? request.encoded->made_bytes : 0;
  if (bytes > expected_bytes)
    memory_.add(request.charge, bytes - expected_bytes);
  else
    memory_.shrink(request.charge, expected_bytes - bytes);
}

// Once it is queued, the reply may be sent by anyone and be the connection's last.
void Completions::answer(PendingRequest *request) {
  if (led_ == this) { // which holds the connection, and flushes after the call
    push(request);
    return;
  }
  const std::shared_ptr<ReplyEnd> keep = reply_end(); // finish cannot have come before
  push(request);
  if (replies_.pending_bytes() >= FLUSH_BYTES || !host::join_reply_batch(keep))
    replies_.flush(WhenFull::wake_leader);
}

// At once, while its owner waits. False: its data have been copied instead.
bool Completions::send_borrowed(PendingRequest *request) {
  if (led_ != this && request->length_bytes >= DIRECT_BYTES) {
    const std::shared_ptr<void> keep = shared_.life;
    request->enter(Stage::in_flight, Stage::answered);
    if (replies_.send_borrowed(request))
      return true;
    request->enter(Stage::answered, Stage::in_flight);
  }
  request->take_answer(request->error);
  return false;
}

void Completions::give_up(backend::Request &completed, int error) {
  auto &request = static_cast<PendingRequest &>(completed);
  request.is_given_up = true;
  request.pin = shared_.life;
  request.error = error;
  answer(&request);
}

void Completions::release(backend::Request &completed) {
  auto &request = static_cast<PendingRequest &>(completed);
  const uint8_t holders = request.holders.fetch_sub(1, std::memory_order_acq_rel);
  base::invariant(holders > 0, "a request that is given up is released by its two holders");
  if (holders > 1)
    return;
  std::shared_ptr<void> pin = std::move(request.pin); // perhaps the last one
  const MemoryCharge charge = request.charge;         // which goes with the request
  dispose(&request, &request, charge);
}

bool Completions::client_has_gone() const {
  return shared_.client_has_left.load(std::memory_order_relaxed) || shared_.transport.is_aborted();
}

void Completions::report_failure(const PendingRequest &request) {
  shared_.counters.count_failure(request);
  uint32_t sent = wire::error_from_errno(request.error, request.flags);
  if (sent == wire::NBD_ENOTSUP) // a fast zero refused as it should be
    return;
  unsigned reported = failures_reported_.fetch_add(1, std::memory_order_relaxed);
  if (reported >= MAX_FAILURES_REPORTED && !host::log_is_verbose())
    return;
  host::ContextScope scope(
      shared_.ends.client.get()); // names the plugin and the connection in the line
  host::log_error(
      "%s offset=%" PRIu64 " count=%" PRIu64 ": %s; client was sent %s%s",
      wire::command_name(request.type), request.offset, request.length_bytes,
      base::error_text(request.error).c_str(), base::error_name(static_cast<int>(sent)).c_str(),
      reported + 1 == MAX_FAILURES_REPORTED ? "; further failures on this connection are not logged"
                                            : "");
}

// One look at the clock for all replies of a batch.
void Completions::on_taken(const PendingRequest *first) {
  if (latencies_ == nullptr)
    return;
  const base::Time now = shared_.runtime.clock.now();
  for (const PendingRequest *request = first; request != nullptr; request = request->next)
    if (request->type < LatencyCounters::COMMANDS)
      latencies_->record(latencies_place_, request->type, now - request->received_at);
}

void Completions::on_sent(PendingRequest *first, uint32_t count) {
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
  const uint32_t before = live_.fetch_sub(count);
  base::invariant(before >= count, "a reply leaves once for each request");
  if (leader_waits_.load())
    shared_.transport.wake();
}

// Frees what a chain of requests has held.
void Completions::dispose(PendingRequest *first, PendingRequest *last, const MemoryCharge &charge) {
  for (PendingRequest *request = first;; request = request->next) {
    request->enter(Stage::answered, Stage::free);
    request->reply_buffer->unref();
    if (request->payload_buffer != nullptr)
      request->payload_buffer->unref();
    // May be large, and what was charged for them goes back.
    request->extras.reset();
    request->encoded.reset();
    if (request == last)
      break;
  }
  requests_.recycle(first, last);
  memory_.give_back(charge);
}

} // namespace asyncnbd::nbd
