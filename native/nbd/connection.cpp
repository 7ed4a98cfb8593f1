// The life of connection.hpp: start, requests one by one, the end.
#include "nbd/connection.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstring>
#include <utility>

#include "backend/sparse_reads.hpp"
#include "backend/timely_close.hpp"
#include "base/error_numbers.hpp"
#include "host/log.hpp"

namespace asyncnbd::nbd {

constinit thread_local const Connection *Connection::led_ = nullptr;

namespace {

// With this much queued, no more requests are read: the client does not read its replies.
constexpr size_t MAX_PENDING_BYTES = 8 << 20;
// From here on it is cheaper to have the kernel refer to a file's pages than to copy them.
constexpr uint32_t MIN_PIPED_READ_BYTES = 16 << 10;

// A close that need not wait for anything gets so long, whatever requests have left of the grace.
constexpr std::chrono::milliseconds LEAST_TO_CLOSE{250};
// The payload of a write from here on may have come long after its header.
constexpr uint64_t TIMED_FROM_PAYLOAD_BYTES = 64 << 10;

} // namespace

bool Connection::start(std::unique_ptr<transport::Transport> *transport,
                       std::unique_ptr<backend::Backend> *backend,
                       const TransmissionSettings &settings, OnClosed on_closed) {
  if (!(*transport)->is_usable())
    return false;
  const backend::Facts &facts = (*backend)->facts();
  const bool overlapping = facts.thread_model >= backend::ThreadModel::parallel;
  max_threads_ = overlapping ? settings.max_threads : 1;
  answers_later_ = facts.answers_later();
  facts_ = {facts.size_bytes,           settings.flags,
            settings.contexts,          settings.block_bytes,
            settings.max_payload_bytes, facts.block_sizes_bind};
  may_send_holes_ = settings.style != wire::ReplyStyle::simple && facts.has_sparse_reads;
  grace_ms_.store(settings.grace.count(), std::memory_order_relaxed);
  server_budget_ = settings.server_budget;
  may_reserve_ = settings.has_shortcuts;
  system_receives_ = (*transport)->can_move_pages();
  may_pipe_ = settings.has_shortcuts && !answers_later_ && system_receives_;
  memory_.emplace(settings.max_bytes, server_budget_.get(),
                  MemoryAccount::ALLOTTED_BYTES +
                      (*backend)->bytes_besides(wire::NBD_CMD_WRITE, MemoryAccount::FIRST_BYTES));
  transport_ = std::move(*transport);
  backend_ = std::move(*backend);
  replies_ = std::make_unique<ReplyQueue>(*transport_, static_cast<ReplyListener &>(*this));
  const schedule::Spinner spinner(runtime_.clock, runtime_.spin_limit, settings.spin_us);
  reader_ = std::make_unique<RequestReader>(
      resources_, *transport_, *replies_, facts_, static_cast<backend::Maker &>(*this),
      static_cast<Admission &>(*this), stop_requested_, spinner, when_full(), settings.style);
  waits_.emplace(runtime_, ClientWaits::Watched{*transport_, *reader_, *replies_, *memory_},
                 failure_, settings.stall_timeout);
  if (settings.latencies != nullptr) {
    latencies_ = settings.latencies;
    latencies_place_ = latencies_->next_place();
    reader_->time_requests(runtime_.clock);
  }
  on_closed_ = std::move(on_closed);
  self_ = shared_from_this();
  threads_ = 1;
  can_be_polled_ = transport_->can_be_polled();
  runtime_.idle_poller.candidate_begins(settings.spin_us);
  runtime_.slow_calls.add(this, leader_token_.word());
  client_->set_transport(transport_.get());
  if (runtime_.threads.run([self = self_]() mutable { lead_on_pool(std::move(self)); }))
    return true;

  client_->set_transport(nullptr);
  runtime_.slow_calls.remove(this);
  runtime_.idle_poller.candidate_ends();
  *transport = std::move(transport_);
  *backend = std::move(backend_);
  self_.reset();
  return false;
}

// Submits the request, or answers it with its error. False: another thread leads now.
bool Connection::execute(PendingRequest *request) {
  live_.fetch_add(1, std::memory_order_relaxed);
  counters_.count(*request);
  if (latencies_ != nullptr && request->length_bytes >= TIMED_FROM_PAYLOAD_BYTES &&
      request->type == wire::NBD_CMD_WRITE)
    request->received_at = runtime_.clock.now(); // its payload took its time
  if (int error = refusal(*request)) {
    request->error = error;
    counters_.count_failure(*request);
    if (request->is_reserved && request->type == wire::NBD_CMD_WRITE)
      unreserve(*request);
    replies_->push(request);
    return true;
  }
  if (may_send_holes_)
    use_sparse_hint(request);
  if (request->answer.is_elsewhere() && !request->may_have_holes) {
    latency_.count_none();
    replies_->push(request);
    return true;
  }
  request->may_answer_in_pages = may_pipe_ && request->type == wire::NBD_CMD_READ &&
                                 request->length_bytes >= MIN_PIPED_READ_BYTES;
  has_worked_ = true;
  const bool is_to_hand_over = !answers_later_ && latency_.is_slow() && is_worth_another_thread();
  uint64_t call = leader_token_.begin_call(); // from here on, another thread may lead
  if (is_to_hand_over)
    hand_over(call);
  {
    schedule::CallLatency::Timed timed(latency_);
    backend_->submit(*request, backend::Caller::may_block);
  }
  if (leader_token_.end_call(call))
    return true;
  replies_->flush(answers_later_ ? WhenFull::wake_leader : WhenFull::wait);
  return false;
}

backend::Reservation Connection::reserve(backend::Request &request) {
  if (!may_reserve_)
    return {};
  backend::Reservation reservation = backend_->reserve(request);
  reservation.takes_pages = reservation.takes_pages && may_pipe_;
  if (!reservation.is_file || system_receives_)
    return reservation;
  backend_->unreserve(request); // what has been encrypted, the system does not write
  return {};
}

void Connection::use_sparse_hint(PendingRequest *request) {
  if (may_be_sparse(*request))
    request->may_have_holes = sparse_hint_.is_worth_asking(request->offset, request->length_bytes);
  else if (request->type == wire::NBD_CMD_BLOCK_STATUS)
    sparse_hint_.client_has_asked();
  else if (request->type == wire::NBD_CMD_TRIM || request->type == wire::NBD_CMD_WRITE_ZEROES)
    sparse_hint_.forget_data();
}

bool Connection::may_be_sparse(const PendingRequest &request) {
  return request.type == wire::NBD_CMD_READ && request.length_bytes >= backend::MIN_SPARSE_BYTES &&
         (request.flags & wire::NBD_CMD_FLAG_DF) == 0;
}

bool Connection::is_worth_sending() const {
  const size_t pending_bytes = replies_->pending_bytes();
  if (pending_bytes < HALF_FLUSH_BYTES || pending_bytes >= FLUSH_BYTES)
    return pending_bytes >= FLUSH_BYTES;
  const size_t made = live_.load(std::memory_order_relaxed);
  const size_t left = reader_->arrived_requests();
  return has_worked_ && left <= made && left * 2 >= made;
}

// False if the client does not read what it has asked for, and the server stops.
bool Connection::send() {
  has_worked_ = false;
  replies_->flush(when_full());
  if (answers_later_)
    return true; // what may be in flight is limit enough
  auto has_room = [this] { return replies_->pending_bytes() <= MAX_PENDING_BYTES; };
  return has_room() || wait_until(has_room, false);
}

bool Connection::admit(MemoryCharge &charge, uint64_t bytes) {
  auto take = [&] { return memory_->take(charge, bytes, *this); };
  if (take() || wait_until(take, false))
    return true;
  memory_->leave(*this);
  return false;
}

// The leader waits for what other threads do, and sends for those that may not block. False when
// it must wait no longer: the grace has passed since the server stops or the client hung up, or,
// if `is_ending`, from now on.
template <typename Condition> bool Connection::wait_until(Condition condition, bool is_ending) {
  using std::chrono::milliseconds;
  using clock = std::chrono::steady_clock;
  if (is_ending && !deadline_)
    deadline_ = clock::now() + grace();
  bool met = condition();
  if (met)
    return true;
  waits_here();
  // Sequentially consistent: either we see what on_sent has done, or it sees that we wait.
  leader_waits_.store(true);
  while (!(met = condition())) {
    replies_->flush(WhenFull::return_early);
    if ((met = condition()))
      break;
    int timeout_ms = -1;
    if (deadline_) {
      auto left = std::chrono::ceil<milliseconds>(*deadline_ - clock::now());
      if (left.count() <= 0)
        break;
      timeout_ms = static_cast<int>(left.count());
    }
    const transport::Wait event =
        waits_->wait({.input = false, .room = replies_->is_full(), .stop = !deadline_}, timeout_ms,
                     false, !deadline_);
    if (event != transport::Wait::stopping && event != transport::Wait::hung_up)
      continue;
    deadline_ = clock::now() + grace();
    tell_backend(event == transport::Wait::hung_up, event == transport::Wait::stopping);
  }
  leader_waits_.store(false);
  waits_->has_not_received();
  return met;
}

int Connection::refusal(const PendingRequest &request) const {
  if (request.error != 0) {
    host::log_debug("refused: %s offset=%" PRIu64 " count=%" PRIu64 " flags=0x%x: %s",
                    wire::command_name(request.type), request.offset, request.length_bytes,
                    request.flags, base::error_text(request.error).c_str());
    return request.error;
  }
  return client_->is_disconnected() ? ESHUTDOWN : 0;
}

// Of the grace of a stop, what its requests have left.
std::chrono::milliseconds Connection::time_to_close() const {
  const std::chrono::milliseconds stop_by(stop_by_ms_.load(std::memory_order_relaxed));
  const std::chrono::milliseconds now(base::in_ms(runtime_.clock.now()));
  return std::clamp(stop_by - now, std::min(LEAST_TO_CLOSE, grace()), grace());
}

// ---- the end ---------------------------------------------------------------------------------

// By the leader, as soon as it is seen: the answers that are waited for may be those of requests
// that layers have wait for their time.
void Connection::tell_backend(bool client_has_gone, bool server_stops) {
  if (client_has_gone && !client_has_left_.exchange(true, std::memory_order_relaxed))
    backend_->on_client_gone();
  if (server_stops && !std::exchange(knows_of_stop_, true))
    backend_->on_server_stopping();
}

// Nothing more is read. What is in flight gets its replies, or is given up.
void Connection::end() {
  before_delay(); // the plugin may take its time to close, and the client to read its last replies
  tell_backend(reader_->client_has_left(),
               stop_requested_.load(std::memory_order_relaxed) || client_->server->is_stopping());
  auto is_answered = [this] { return live_.load() == 0; };
  if (!wait_until(is_answered, true)) {
    host::log_error("%" PRIu32 " requests are unanswered after %.1f s", live_.load(),
                    static_cast<double>(grace().count()) / 1000);
    do {
      backend_->give_up_unanswered();
      deadline_ = std::chrono::steady_clock::now() + backend::GIVE_UP_AGAIN_AFTER;
    } while (!wait_until(is_answered, true));
  }
  finish();
}

// Nothing is outstanding, and this thread is the only one that may still touch the backend and
// the transport. The object lives on until the last of its threads has gone.
void Connection::finish() {
  runtime_.slow_calls.remove(this);
  if (schedule::Registration *registration = registration_.exchange(nullptr))
    runtime_.idle_poller.remove(*registration);
  if (runtime_.idle_poller.candidate_ends() == 0)
    resources_.page_pipes.close_kept();
  backend::close_in_time(*backend_, resources_.of_backends, time_to_close());
  client_->export_name = nullptr;
  client_->peer_fd = -1;
  transport_->close(reader_->has_unread_input());
  host::log_debug("%s: connection %" PRIu64 " closed", client_->plugin_name.c_str(),
                  client_->number);
  client_->set_transport(nullptr); // which may be gone before the client's context
  OnClosed on_closed = std::move(on_closed_);
  std::shared_ptr<Connection> keep = std::move(self_);
  on_closed(keep);
}

// Either we see that it waits elsewhere, or it sees, before it does, that it is to stop.
void Connection::stop() {
  stop_requested_.store(true);
  if (registration_.load() != nullptr)
    transport_->wake();
}

void Connection::stop(std::chrono::milliseconds grace) {
  grace_ms_.store(grace.count(), std::memory_order_relaxed);
  stop_by_ms_.store(base::in_ms(runtime_.clock.now()) + grace.count(), std::memory_order_relaxed);
  stop();
}

void Connection::abort() {
  transport_->abort();
}

} // namespace asyncnbd::nbd
