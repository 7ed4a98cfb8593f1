// The life of connection.hpp: start, the lead and its passing on, the end.
#include "connection/connection.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstring>

#include "host/crew.hpp"
#include "host/log.hpp"

namespace asyncnbd::connection {

namespace {

// Replies are sent when this much is queued: more would not stay in the L2 cache.
constexpr size_t FLUSH_BYTES = 128 << 10;
// From here on, half of what the client has asked is sent while the other half is worked on: else
// server and client would wait for each other in turn.
constexpr size_t HALF_FLUSH_BYTES = FLUSH_BYTES / 2;
// With this much queued, no more requests are read: the client does not read its replies.
constexpr size_t MAX_PENDING_BYTES = 8 << 20;
// From here on, sending lent data at once, by a system call of its own, beats a copy.
constexpr uint32_t DIRECT_BYTES = 32 << 10;
// As many times the watcher must see an asynchronous callback before it counts as stuck.
constexpr unsigned ASYNC_STUCK_TICKS = 50;
// Between attempts to end what does not end.
constexpr std::chrono::milliseconds GIVE_UP_AGAIN_AFTER{100};
// How long a thread that has finished a slow call looks whether the leader is stuck in another.
constexpr std::chrono::microseconds STUCK_AFTER{20};
// A failing disk fails thousands of times; its log says the same each time.
constexpr unsigned MAX_FAILURES_REPORTED = 10;

// Reads from here on may be answered with holes.
constexpr uint32_t MIN_SPARSE_BYTES = 16 << 10;

// The connection that this thread leads, or led until its current call was passed on: it will
// flush after the call, so completions inside need not.
thread_local const Connection *led_connection = nullptr;

} // namespace

bool Connection::start(std::unique_ptr<transport::Transport> *transport,
                       std::unique_ptr<backend::Backend> *backend,
                       const TransmissionSettings &settings, std::function<void()> on_closed) {
  if (!(*transport)->is_usable())
    return false;
  const bool overlapping = (*backend)->thread_model() >= backend::ThreadModel::parallel;
  max_threads_ = overlapping ? settings.max_threads : 1;
  // A leader whose calls return at once must not stop reading because the client is slow to take
  // earlier replies: requests that wait in the socket would all begin at the same time later.
  if ((*backend)->thread_model() == backend::ThreadModel::async)
    when_full_ = WhenFull::come_back;
  facts_ = {(*backend)->capabilities().size_bytes, settings.flags, settings.contexts,
            settings.block_bytes, settings.max_payload_bytes};
  may_send_holes_ =
      settings.style != wire::ReplyStyle::simple && (*backend)->capabilities().can_extents;
  set_grace(settings.grace);
  server_budget_ = settings.server_budget;
  budget_.emplace(settings.max_bytes, server_budget_.get());
  transport_ = std::move(*transport);
  backend_ = std::move(*backend);
  replies_ = std::make_unique<ReplyQueue>(*transport_, static_cast<ReplyListener &>(*this));
  reader_ = std::make_unique<RequestReader>(*transport_, *replies_, facts_,
                                            static_cast<backend::Completer &>(*this),
                                            static_cast<Admission &>(*this), stop_requested_,
                                            settings.spin_us, when_full_, settings.style);
  on_closed_ = std::move(on_closed);
  self_ = shared_from_this();
  threads_ = 1;
  can_wait_elsewhere_ = transport_->can_join();
  WaitingRoom::instance().connection_begins(settings.spin_us);
  watch(this);
  if (host::run_on_crew([self = self_]() mutable { lead_on_crew(std::move(self)); }))
    return true;

  unwatch(this);
  WaitingRoom::instance().connection_ends();
  *transport = std::move(transport_);
  *backend = std::move(backend_);
  self_.reset();
  return false;
}

// ---- leading ---------------------------------------------------------------------------------

// The connection lives as long as somebody else keeps it, not as long as this thread has work.
void Connection::lead_on_crew(std::shared_ptr<Connection> self) {
  self->lead();
  self.reset();
  WaitingRoom::instance().lend_thread();
}

void Connection::lead() {
  host::ContextScope scope(this); // for log lines; a backend makes its own around its calls
  led_connection = this;
  Lead lead;
  do {
    lead = lead_until_passed_on();
  } while (lead == Lead::lost && max_threads_ > 1 && take_lead_from_stuck_thread());
  led_connection = nullptr;
  if (lead != Lead::given_up)
    threads_.fetch_sub(1, std::memory_order_relaxed);
}

Connection::Lead Connection::lead_until_passed_on() {
  replies_->flush(when_full_); // a thread stuck in a call may have left some behind
  do {
    while (PendingRequest *request = reader_->next()) {
      if (!execute(request))
        return Lead::lost;
      if (is_worth_sending() && !send()) {
        end();
        return Lead::over;
      }
    }
    if (!reader_->has_to_wait()) {
      end();
      return Lead::over;
    }
  } while (!wait_for_client());
  return Lead::given_up;
}

// ---- waiting for the client without a thread ---------------------------------------------------

bool Connection::waits_elsewhere() {
  return can_wait_elsewhere_ && pace_.is_quick() && WaitingRoom::instance().is_open();
}

// False: there is something to do for whoever leads.
bool Connection::wait_for_client() {
  WaitingRoom::Seat *seat = seat_.load(std::memory_order_relaxed);
  if (seat == nullptr) {
    seat = WaitingRoom::instance().enter(*this, *transport_);
    seat_.store(seat); // sequentially consistent: see stop
    can_wait_elsewhere_ = seat != nullptr;
    if (seat == nullptr)
      return false;
  }
  if (stop_requested_.load())
    return false;
  reader_->leave_stock();
  threads_.fetch_sub(1, std::memory_order_relaxed);
  if (WaitingRoom::instance().wait(*seat))
    return true;
  threads_.fetch_add(1, std::memory_order_relaxed);
  reader_->take_stock();
  return false;
}

Guest::Served Connection::resume() {
  const std::shared_ptr<Connection> keep = self_; // it may come to its end
  threads_.fetch_add(1, std::memory_order_relaxed);
  reader_->take_stock();
  const uint64_t before_bytes = read_bytes_.load(std::memory_order_relaxed);
  lead();
  return {keep, read_bytes_.load(std::memory_order_relaxed) - before_bytes};
}

// Submits the request, or answers it with its error. False when the lead is lost.
bool Connection::execute(PendingRequest *request) {
  live_.fetch_add(1, std::memory_order_relaxed);
  count(*request);
  if (int error = refusal(*request)) {
    request->error = error;
    failed_.fetch_add(1, std::memory_order_relaxed);
    if (request->is_placed)
      unplace(request->offset, static_cast<uint32_t>(request->length_bytes));
    replies_->push(request);
    return true;
  }
  if (may_send_holes_ && may_be_sparse(*request))
    request->may_have_holes = holes_.is_worth_asking();
  if (request->lent.data != nullptr && !request->may_have_holes) {
    replies_->push(request);
    return true;
  }
  has_worked_ = true;
  uint64_t call = baton_.begin_call();
  if (when_full_ == WhenFull::wait && pace_.is_slow() && is_worth_another_thread())
    pass_lead_on(call);
  {
    Pace::Timed timed(pace_);
    backend_->submit(*request);
  }
  if (baton_.end_call(call))
    return true;
  replies_->flush(when_full_ == WhenFull::wait ? WhenFull::wait : WhenFull::pass_on);
  return false;
}

bool Connection::may_be_sparse(const PendingRequest &request) {
  return request.type == wire::NBD_CMD_READ && request.length_bytes >= MIN_SPARSE_BYTES &&
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
  replies_->flush(when_full_);
  if (when_full_ == WhenFull::come_back)
    return true; // what may be in flight is limit enough
  auto has_room = [this] { return replies_->pending_bytes() <= MAX_PENDING_BYTES; };
  return has_room() || wait_until(has_room, false);
}

bool Connection::admit(uint32_t bytes) {
  if (budget_->take(bytes, *this))
    return true;
  if (wait_until([this, bytes] { return budget_->take(bytes, *this); }, false))
    return true;
  budget_->leave(*this);
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
  bool met;
  // Sequentially consistent: either we see what on_sent has done, or it sees that we wait.
  leader_waits_.store(true);
  while (!(met = condition())) {
    replies_->flush(WhenFull::come_back);
    if ((met = condition()))
      break;
    int timeout_ms = -1;
    if (deadline_) {
      auto left = std::chrono::ceil<milliseconds>(*deadline_ - clock::now());
      if (left.count() <= 0)
        break;
      timeout_ms = static_cast<int>(left.count());
    }
    const transport::Wait event = transport_->wait(
        {.input = false, .room = replies_->is_full(), .stop = !deadline_}, timeout_ms, !deadline_);
    if (event == transport::Wait::stopping || event == transport::Wait::hung_up)
      deadline_ = clock::now() + grace();
  }
  leader_waits_.store(false);
  return met;
}

int Connection::refusal(const PendingRequest &request) const {
  if (request.error != 0) {
    host::log_debug("refused: %s offset=%" PRIu64 " count=%" PRIu64 " flags=0x%x: %s",
                    wire::command_name(request.type), request.offset, request.length_bytes,
                    request.flags, strerror(request.error));
    return request.error;
  }
  return refuse_commands_.load(std::memory_order_relaxed) ? ESHUTDOWN : 0;
}

// Only the leader counts: no atomic addition is needed, only values that others may read.
void Connection::count(const PendingRequest &request) {
  auto add = [](std::atomic<uint64_t> &counter, uint64_t amount) {
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  };
  add(requests_, 1);
  if (request.type == wire::NBD_CMD_READ)
    add(read_bytes_, request.length_bytes);
  else if (request.type == wire::NBD_CMD_WRITE)
    add(written_bytes_, request.length_bytes);
}

Connection::Counts Connection::counts() const {
  return {requests_.load(std::memory_order_relaxed), failed_.load(std::memory_order_relaxed),
          read_bytes_.load(std::memory_order_relaxed),
          written_bytes_.load(std::memory_order_relaxed), live_.load(std::memory_order_relaxed)};
}

std::chrono::milliseconds Connection::grace() const {
  return std::chrono::milliseconds(grace_ms_.load(std::memory_order_relaxed));
}

// ---- passing the lead on ---------------------------------------------------------------------

// Before a call that will be slow: is there something that another thread could do meanwhile? A
// client that has other requests in flight will soon send more.
bool Connection::is_worth_another_thread() const {
  return threads_.load(std::memory_order_relaxed) < max_threads_ &&
         (reader_->has_more() || live_.load(std::memory_order_relaxed) > 1);
}

// The watcher has seen `call` last.
void Connection::on_stuck(uint64_t call) {
  // Asynchronous callbacks return at once, unless the system is short of processors; then a
  // thread more is no help.
  if (when_full_ == WhenFull::come_back) {
    stuck_ticks_ = call == stuck_call_ ? stuck_ticks_ + 1 : 0;
    stuck_call_ = call;
    if (stuck_ticks_ < ASYNC_STUCK_TICKS)
      return;
  }
  pace_.count_stuck();
  if (WaitingRoom::Seat *seat = seat_.load(std::memory_order_acquire))
    WaitingRoom::instance().relieve(*seat);
  if (threads_.load(std::memory_order_relaxed) < max_threads_)
    pass_lead_on(call);
  else
    send_for_stuck_thread();
}

// Another thread takes the lead, unless the call has ended by the time it runs.
void Connection::pass_lead_on(uint64_t call) {
  threads_.fetch_add(1, std::memory_order_relaxed);
  bool running = host::run_on_crew([self = self_, call]() mutable {
    if (self->baton_.take(call))
      lead_on_crew(std::move(self));
    else
      self->threads_.fetch_sub(1, std::memory_order_relaxed);
  });
  if (!running)
    threads_.fetch_sub(1, std::memory_order_relaxed);
}

// Replies that are ready must not wait for a slow call behind them.
void Connection::send_for_stuck_thread() {
  if (replies_->pending_bytes() == 0 || is_sending_.exchange(true, std::memory_order_relaxed))
    return;
  bool running = host::run_on_crew([self = self_] {
    self->replies_->flush(WhenFull::wait);
    self->is_sending_.store(false, std::memory_order_relaxed);
  });
  if (!running)
    is_sending_.store(false, std::memory_order_relaxed);
}

// For a thread whose own call was slow: the leader's may be as well.
bool Connection::take_lead_from_stuck_thread() {
  uint64_t call = baton_.current_call();
  if (call == 0)
    return false;
  if (pace_.is_slow())
    return baton_.take(call);
  const auto deadline = std::chrono::steady_clock::now() + STUCK_AFTER;
  while (std::chrono::steady_clock::now() < deadline)
    if (baton_.current_call() != call)
      return false;
  return baton_.take(call);
}

// ---- replies ---------------------------------------------------------------------------------

void Connection::complete(backend::Request &completed, int error) {
  auto &request = static_cast<PendingRequest &>(completed);
  request.error = error;
  encode_answer(request, facts_.block_bytes);
  if (request.may_have_holes && request.encoded)
    holes_.found();
  if (request.error != 0)
    report_failure(request);
  answer(&request);
}

// Once it is queued, the reply may be sent by anyone and be the connection's last.
void Connection::answer(PendingRequest *request) {
  if (led_connection == this) { // which holds the connection, and flushes after the call
    replies_->push(request);
    return;
  }
  std::shared_ptr<Connection> keep = self_; // finish cannot have come before
  replies_->push(request);
  if (replies_->pending_bytes() >= FLUSH_BYTES || !host::join_reply_batch(keep))
    replies_->flush(WhenFull::pass_on);
}

void Connection::complete_with(backend::Request &completed, const uint8_t *data) {
  auto &request = static_cast<PendingRequest &>(completed);
  request.error = 0;
  if (led_connection != this && request.length_bytes >= DIRECT_BYTES) {
    std::shared_ptr<Connection> keep = self_;
    if (replies_->send_borrowed(&request, data))
      return;
  }
  memcpy(request.data, data, request.length_bytes);
  answer(&request);
}

void Connection::give_up(backend::Request &completed, int error) {
  auto &request = static_cast<PendingRequest &>(completed);
  request.is_given_up = true;
  request.holders.store(2, std::memory_order_relaxed); // the queue, and the caller's plugin
  request.pin = self_;
  request.error = error;
  answer(&request);
}

void Connection::release(backend::Request &completed) {
  auto &request = static_cast<PendingRequest &>(completed);
  if (request.holders.fetch_sub(1, std::memory_order_acq_rel) > 1)
    return;
  std::shared_ptr<void> pin = std::move(request.pin); // perhaps the last one
  dispose(&request, &request, request.charged_bytes);
}

bool Connection::client_has_gone() const {
  return client_has_left_.load(std::memory_order_relaxed) || transport_->is_aborted();
}

void Connection::report_failure(const PendingRequest &request) {
  failed_.fetch_add(1, std::memory_order_relaxed);
  uint32_t sent = wire::error_from_errno(request.error, request.flags);
  if (sent == wire::NBD_ENOTSUP) // a fast zero refused as it should be
    return;
  unsigned reported = failures_reported_.fetch_add(1, std::memory_order_relaxed);
  if (reported >= MAX_FAILURES_REPORTED && !host::log_is_verbose())
    return;
  host::ContextScope scope(this); // names the plugin and the connection in the line
  const char *told = strerrorname_np(static_cast<int>(sent));
  host::log_error("%s offset=%" PRIu64 " count=%" PRIu64 ": %s; client was sent %s%s",
                  wire::command_name(request.type), request.offset, request.length_bytes,
                  strerror(request.error), told != nullptr ? told : "an error",
                  reported + 1 == MAX_FAILURES_REPORTED
                      ? "; further failures on this connection are not logged"
                      : "");
}

void Connection::on_sent(PendingRequest *first, uint32_t count) {
  PendingRequest **link = &first;
  PendingRequest *last_kept = nullptr;
  uint64_t charged_bytes = 0;
  for (PendingRequest *request = first; request != nullptr; request = *link) {
    if (request->lent.give_back != nullptr)
      request->lent.give_back(request->lent.opaque);
    if (request->is_given_up) {
      *link = request->next;
      release(*request);
      continue;
    }
    charged_bytes += request->charged_bytes;
    last_kept = request;
    link = &request->next;
  }
  if (last_kept != nullptr)
    dispose(first, last_kept, charged_bytes);
  live_.fetch_sub(count);
  if (leader_waits_.load())
    transport_->wake();
}

// Frees what a chain of requests has held.
void Connection::dispose(PendingRequest *first, PendingRequest *last, uint64_t charged_bytes) {
  for (PendingRequest *request = first;; request = request->next) {
    request->reply_buffer->unref();
    if (request->payload_buffer != nullptr)
      request->payload_buffer->unref();
    if (request == last)
      break;
  }
  reader_->recycle(first, last);
  budget_->give_back(charged_bytes);
}

// ---- the end ---------------------------------------------------------------------------------

// Nothing more is read. What is in flight gets its replies, or is given up.
void Connection::end() {
  client_has_left_.store(reader_->client_has_left(), std::memory_order_relaxed);
  if (client_has_left_.load(std::memory_order_relaxed))
    backend_->on_client_gone();
  auto is_answered = [this] { return live_.load() == 0; };
  if (!wait_until(is_answered, true)) {
    host::log_error("%" PRIu32 " requests are unanswered after %.1f s", live_.load(),
                    static_cast<double>(grace().count()) / 1000);
    // Again and again: what goes on in several steps may be between two of them.
    do {
      backend_->give_up_unanswered();
      deadline_ = std::chrono::steady_clock::now() + GIVE_UP_AGAIN_AFTER;
    } while (!wait_until(is_answered, true));
  }
  finish();
}

// Nothing is outstanding, and this thread is the only one that may still touch the backend and
// the transport. The object lives on until the last of its threads has gone.
void Connection::finish() {
  unwatch(this);
  if (WaitingRoom::Seat *seat = seat_.exchange(nullptr))
    WaitingRoom::instance().leave(*seat);
  WaitingRoom::instance().connection_ends();
  backend_->close();
  export_name = nullptr;
  transport_->close(reader_->has_unread_input());
  host::log_debug("%s: connection %" PRIu64 " closed", plugin_name.c_str(), number);
  std::function<void()> on_closed = std::move(on_closed_);
  std::shared_ptr<Connection> keep = std::move(self_);
  if (on_closed)
    on_closed();
}

// Either we see that it waits elsewhere, or it sees, before it does, that it is to stop.
void Connection::stop() {
  stop_requested_.store(true);
  if (seat_.load() != nullptr)
    transport_->wake();
}

void Connection::abort() {
  transport_->abort();
}

void Connection::disconnect(bool force) {
  refuse_commands_.store(true, std::memory_order_relaxed);
  if (force && transport_ != nullptr)
    transport_->abort();
}

} // namespace asyncnbd::connection
