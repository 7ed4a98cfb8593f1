// Leading and waiting: see leader.hpp, leader_threads.cpp for how the lead changes hands, and
// leader_on_loop.cpp for leading on an event loop.
#include "nbd/leader.hpp"

#include <cinttypes>

#include "backend/sparse_reads.hpp"
#include "base/error_numbers.hpp"
#include "base/invariant.hpp"
#include "host/log.hpp"

namespace asyncnbd::nbd {

namespace {

// From here on, half of what the client has asked is sent while the other half is worked on: else
// server and client would wait for each other in turn.
constexpr size_t HALF_FLUSH_BYTES = Completions::FLUSH_BYTES / 2;
// With this much queued, no more requests are read, or answered at once: the client does not read
// its replies.
constexpr size_t MAX_PENDING_BYTES = 8 << 20;
// From here on it is cheaper to have the kernel refer to a file's pages than to copy them.
constexpr uint32_t MIN_PIPED_READ_BYTES = 16 << 10;
// The same where it is to be found out first whether that would wait.
constexpr uint32_t MIN_PIPED_AT_ONCE_BYTES = 32 << 10;

} // namespace

Leader::Leader(const Parts &parts, std::function<void()> on_end)
    : shared_(parts.shared), admission_(parts.admission), reader_(parts.reader),
      completions_(parts.completions), client_waits_(parts.client_waits), place_(parts.place),
      loop_(parts.loop), latency_(parts.latency), on_end_(std::move(on_end)),
      answer_waits_(shared_, completions_, client_waits_, place_),
      intake_({shared_.transport, reader_, completions_.requests(), completions_.replies(), waits_,
               shared_.stop_requested},
              schedule::Spinner(shared_.runtime.clock, shared_.runtime.spin_limit,
                                shared_.settings.limits.spin_us),
              when_full()),
      token_(shared_.runtime.slow_calls) {}

// ---- leading -----------------------------------------------------------------------------------

void Leader::lead() {
  host::ContextScope scope(
      shared_.ends.client.get()); // for log lines; a backend makes its own around its calls
  const Completions::Leading leading(completions_);
  Exit exit;
  do {
    exit = lead_until_handed_over();
  } while (exit == Exit::replaced && shared_.max_threads > 1 && take_over_from_slow_thread());
  if (exit != Exit::released)
    threads_.fetch_sub(1, std::memory_order_relaxed);
}

Leader::Exit Leader::lead_until_handed_over() {
  completions_.replies().flush(when_full()); // a thread in a slow call may have left some behind
  do {
    while (PendingRequest *request = intake_.next()) {
      if (!execute(request))
        return Exit::replaced;
      if (is_long_turn())
        place_.before_delay();
      if (is_worth_sending() && !send()) {
        end();
        return Exit::finished;
      }
      if (loop_.is_wanted() && move_to_loop())
        return Exit::released;
    }
    if (!intake_.has_to_wait()) {
      end();
      return Exit::finished;
    }
  } while (!wait_for_client());
  return Exit::released;
}

// Submits the request, or answers it with its error. False: another thread leads now.
bool Leader::execute(PendingRequest *request) {
  return !needs_backend(request) || call_backend(request);
}

// False: the request has been answered.
bool Leader::needs_backend(PendingRequest *request) {
  completions_.begin(*request);
  if (loop_.exists())
    loop_.note(*request, completions_.in_flight() == 1 && reader_.arrived_requests() == 0);
  if (const int error = refusal(*request)) {
    completions_.refuse(*request, error);
    return false;
  }
  if (shared_.may_send_holes)
    use_sparse_hint(request);
  if (request->answer.is_elsewhere() && !request->may_have_holes) {
    latency_.count_none();
    completions_.answer_at_once(*request);
    return false;
  }
  request->may_answer_in_pages = may_answer_in_pages(*request);
  has_worked_ = true;
  return true;
}

bool Leader::call_backend(PendingRequest *request) {
  const bool is_to_hand_over =
      !shared_.answers_later && latency_.is_slow() && is_worth_another_thread();
  const uint64_t call = token_.begin_call(); // from here on, another thread may lead
  if (is_to_hand_over)
    hand_over(call);
  {
    schedule::CallLatency::Timed timed(latency_);
    shared_.backend.submit(*request, caller());
  }
  if (token_.end_call(call))
    return true;
  completions_.replies().flush(shared_.answers_later ? WhenFull::wake_leader : WhenFull::wait);
  return false;
}

// Pages that could not leave at once would have to be copied out, where this thread does not wait.
bool Leader::may_answer_in_pages(const PendingRequest &request) const {
  if (!shared_.may_pipe || request.type != wire::NBD_CMD_READ)
    return false;
  if (!shared_.answers_later)
    return request.length_bytes >= MIN_PIPED_READ_BYTES;
  return request.length_bytes >= MIN_PIPED_AT_ONCE_BYTES &&
         shared_.transport.has_room_for_references(completions_.replies().pending_bytes() +
                                                   request.length_bytes);
}

// A backend that answers later may take its time for what its client does not read.
backend::Caller Leader::caller() const {
  return shared_.answers_later && completions_.replies().pending_bytes() > MAX_PENDING_BYTES
             ? backend::Caller::must_not_block
             : backend::Caller::may_block;
}

int Leader::refusal(const PendingRequest &request) const {
  if (request.error != 0) {
    host::log_debug("refused: %s offset=%" PRIu64 " count=%" PRIu64 " flags=0x%x: %s",
                    wire::command_name(request.type), request.offset, request.length_bytes,
                    request.flags, base::error_text(request.error).c_str());
    return request.error;
  }
  return shared_.ends.client->is_disconnected() ? ESHUTDOWN : 0;
}

void Leader::use_sparse_hint(PendingRequest *request) {
  SparseHint &hint = shared_.sparse_hint;
  switch (request->type) {
  case wire::NBD_CMD_READ:
    if (request->length_bytes >= backend::MIN_SPARSE_BYTES &&
        (request->flags & wire::NBD_CMD_FLAG_DF) == 0)
      request->may_have_holes = hint.is_worth_asking(request->offset, request->length_bytes);
    break;
  case wire::NBD_CMD_BLOCK_STATUS:
    hint.client_has_asked();
    break;
  case wire::NBD_CMD_TRIM:
  case wire::NBD_CMD_WRITE_ZEROES:
    hint.forget_data();
    break;
  }
}

bool Leader::is_worth_sending() const {
  const size_t pending_bytes = completions_.replies().pending_bytes();
  if (pending_bytes < HALF_FLUSH_BYTES || pending_bytes >= Completions::FLUSH_BYTES)
    return pending_bytes >= Completions::FLUSH_BYTES;
  const size_t made = completions_.in_flight();
  const size_t left = reader_.arrived_requests();
  return has_worked_ && left <= made && left * 2 >= made;
}

// False if the client does not read what it has asked for, and the server stops.
bool Leader::send() {
  has_worked_ = false;
  ReplyQueue &replies = completions_.replies();
  replies.flush(when_full());
  if (shared_.answers_later)
    return true; // what may be in flight is limit enough
  return answer_waits_.wait_until(
      [&replies] { return replies.pending_bytes() <= MAX_PENDING_BYTES; });
}

// Nothing more is read. What is in flight gets its replies, or is given up.
void Leader::end() {
  reader_.end(true);
  // The plugin may take its time to close, and the client to read its last replies.
  place_.before_delay();
  answer_waits_.tell_backend(reader_.client_has_left(),
                             shared_.stop_requested.load(std::memory_order_relaxed) ||
                                 shared_.ends.client->server->is_stopping());
  answer_waits_.wait_for_last_answers();
  on_end_();
}

// ---- waiting for the client --------------------------------------------------------------------

bool Leader::Waits::waits_in_poller(bool has_idled) {
  const bool elsewhere = leader_.place_.is_wanted(has_idled);
  if (!elsewhere)
    leader_.place_.suspend_input();
  return elsewhere;
}

void Leader::Waits::waits_here() {
  leader_.place_.waits_here();
}

transport::Wait Leader::Waits::wait(transport::Wanted wanted, int timeout_ms, bool owes_input) {
  return leader_.client_waits_.wait(wanted, timeout_ms, owes_input, false);
}

bool Leader::Waits::has_idled() {
  // Before that, those which are over have given back what they had.
  const bool is_all = leader_.completions_.is_all_sent();
  leader_.shared_.backend.release_idle_memory();
  return is_all;
}

bool Leader::Waits::wait_for_memory() {
  if (leader_.answer_waits_.wait_until([this] { return leader_.reader_.admits(); }))
    return true;
  leader_.admission_.leave();
  return false;
}

bool Leader::release_idle_memory() {
  const bool is_all = waits_.has_idled();
  reader_.release_idle_memory();
  completions_.requests().release_idle_memory();
  return is_all;
}

// False: there is something to do for whoever leads.
bool Leader::wait_for_client() {
  if (!place_.enter(*this))
    return false;
  if (shared_.stop_requested.load() || shared_.ends.client->server->is_stopping()) {
    shared_.stop_requested.store(true);
    return false;
  }
  base::invariant(reader_.is_between_requests(), "who waits without a thread holds no request");
  reader_.fill_thread_cache();
  completions_.requests().fill_thread_cache();
  threads_.fetch_sub(1, std::memory_order_relaxed);
  if (place_.wait())
    return true;
  threads_.fetch_add(1, std::memory_order_relaxed);
  reader_.use_thread_cache();
  completions_.requests().use_thread_cache();
  return false;
}

// How much of a turn is too much for others who wait.
void Leader::begin_turn() {
  constexpr uint64_t MAX_REQUESTS = 1024;
  constexpr uint64_t MAX_BYTES = 4 << 20;
  turn_ends_at_requests_ = shared_.counters.requests() + MAX_REQUESTS;
  turn_ends_at_bytes_ = shared_.counters.moved_bytes() + MAX_BYTES;
  if (!latency_.is_quick()) // it is here because it has idled
    place_.before_delay();
}

bool Leader::is_long_turn() const {
  return shared_.counters.requests() > turn_ends_at_requests_ ||
         shared_.counters.moved_bytes() > turn_ends_at_bytes_;
}

schedule::Pollable::Turn Leader::resume() {
  const std::shared_ptr<const schedule::Receiver> keep = completions_.reply_end(); // it may end
  if (loop_.is_there()) {
    lead_on_loop();
    return {};
  }
  threads_.fetch_add(1, std::memory_order_relaxed);
  reader_.use_thread_cache();
  completions_.requests().use_thread_cache();
  const uint64_t before_bytes = shared_.counters.read_bytes();
  begin_turn();
  lead();
  return {keep, shared_.counters.read_bytes() - before_bytes};
}

} // namespace asyncnbd::nbd
