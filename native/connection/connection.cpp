// The life of connection.hpp: start, the lead and its passing on, the end.
#include "connection/connection.hpp"

#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstring>
#include <thread>

#include "host/log.hpp"

namespace asyncnbd::connection {

namespace {

// Replies are sent when this much is queued: more would not stay in the L2 cache.
constexpr size_t FLUSH_BYTES = 128 << 10;
// How long a thread that has finished a slow call looks whether the leader is stuck in another.
constexpr std::chrono::microseconds STUCK_AFTER{20};
// A failing disk fails thousands of times; its log says the same each time.
constexpr unsigned MAX_FAILURES_REPORTED = 10;

// The connection that this thread leads, or led until its current call was passed on: it will
// flush after the call, so completions inside need not.
thread_local const Connection *led_connection = nullptr;

} // namespace

bool Connection::start(std::unique_ptr<transport::Transport> *transport,
                       std::unique_ptr<backend::Backend> *backend,
                       const TransmissionSettings &settings, std::function<void()> on_closed) {
  const bool parallel = (*backend)->thread_model() == backend::ThreadModel::parallel;
  max_threads_ = parallel ? settings.max_threads : 1;
  facts_ = {(*backend)->capabilities().size_bytes, settings.flags};
  transport_ = std::move(*transport);
  backend_ = std::move(*backend);
  replies_ = std::make_unique<ReplyQueue>(*transport_, static_cast<SentListener &>(*this));
  reader_ = std::make_unique<RequestReader>(*transport_, *replies_, facts_,
                                            static_cast<backend::Completer &>(*this),
                                            stop_requested_, settings.spin_us);
  on_closed_ = std::move(on_closed);
  self_ = shared_from_this();
  threads_ = 1;
  watch(this);
  if (run_on_crew([self = self_] { self->lead(); }))
    return true;

  unwatch(this);
  *transport = std::move(transport_);
  *backend = std::move(backend_);
  self_.reset();
  return false;
}

void Connection::lead() {
  host::ContextScope scope(this); // for log lines; a backend makes its own around its calls
  led_connection = this;
  do {
    lead_until_passed_on();
  } while (max_threads_ > 1 && take_lead_from_stuck_thread());
  led_connection = nullptr;
  threads_.fetch_sub(1, std::memory_order_relaxed);
}

// Returns when the lead was taken by another thread, or there is nothing more to read.
void Connection::lead_until_passed_on() {
  replies_->flush(); // a thread stuck in a call may have left some behind
  while (PendingRequest *request = reader_->next()) {
    if (!execute(request))
      return;
    if (replies_->pending_bytes() >= FLUSH_BYTES) {
      replies_->flush();
      replies_->wait_for_room();
    }
  }
  end_reading();
}

// Submits the request, or answers it with its error. False when the lead is lost.
bool Connection::execute(PendingRequest *request) {
  live_.fetch_add(1, std::memory_order_relaxed);
  if (int error = refusal(*request)) {
    request->error = error;
    replies_->push(request);
    return true;
  }
  uint64_t call = baton_.begin_call();
  backend_->submit(*request);
  if (baton_.end_call(call))
    return true;
  replies_->flush();
  return false;
}

int Connection::refusal(const PendingRequest &request) const {
  if (request.error != 0) {
    host::log_debug("refused: %s offset=%" PRIu64 " count=%" PRIu32 " flags=0x%x: %s",
                    wire::command_name(request.type), request.offset, request.length_bytes,
                    request.flags, strerror(request.error));
    return request.error;
  }
  return refuse_commands_.load(std::memory_order_relaxed) ? ESHUTDOWN : 0;
}

// The watcher has seen `call` last. Another thread takes the lead, unless the call has ended by
// the time it runs.
void Connection::on_stuck(uint64_t call) {
  if (threads_.load(std::memory_order_relaxed) >= max_threads_) {
    send_for_stuck_thread();
    return;
  }
  threads_.fetch_add(1, std::memory_order_relaxed);
  bool running = run_on_crew([self = self_, call] {
    if (self->baton_.take(call))
      self->lead();
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
  bool running = run_on_crew([self = self_] {
    self->replies_->flush();
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
  const auto deadline = std::chrono::steady_clock::now() + STUCK_AFTER;
  while (std::chrono::steady_clock::now() < deadline)
    if (baton_.current_call() != call)
      return false;
  return baton_.take(call);
}

void Connection::complete(backend::Request &completed, int error) {
  auto *request = static_cast<PendingRequest *>(&completed);
  const bool will_flush = led_connection == this;
  // Once pushed, the reply may be sent by anyone and be the connection's last. A leader holds the
  // connection; another thread must until its flush is over. finish cannot have come before.
  std::shared_ptr<Connection> keep = will_flush ? nullptr : self_;
  request->error = error;
  if (error != 0)
    report_failure(*request);
  replies_->push(request);
  if (!will_flush)
    replies_->flush();
}

void Connection::report_failure(const PendingRequest &request) {
  uint32_t sent = wire::error_from_errno(request.error, request.flags);
  if (sent == wire::NBD_ENOTSUP) // a fast zero refused as it should be
    return;
  unsigned reported = failures_reported_.fetch_add(1, std::memory_order_relaxed);
  if (reported >= MAX_FAILURES_REPORTED && !host::log_is_verbose())
    return;
  host::ContextScope scope(this); // names the plugin and the connection in the line
  const char *told = strerrorname_np(static_cast<int>(sent));
  host::log_error("%s offset=%" PRIu64 " count=%" PRIu32 ": %s; client was sent %s%s",
                  wire::command_name(request.type), request.offset, request.length_bytes,
                  strerror(request.error), told != nullptr ? told : "an error",
                  reported + 1 == MAX_FAILURES_REPORTED
                      ? "; further failures on this connection are not logged"
                      : "");
}

void Connection::on_sent(PendingRequest *first, PendingRequest *last, uint32_t count) {
  for (PendingRequest *request = first;; request = request->next) {
    request->reply_buffer->unref();
    if (request->payload_buffer != nullptr)
      request->payload_buffer->unref();
    if (request == last)
      break;
  }
  reader_->recycle(first, last);
  release(count);
}

void Connection::end_reading() {
  replies_->flush();
  release(1);
}

void Connection::release(uint32_t count) {
  // Release and acquire: everything done for the other requests comes before finish.
  if (live_.fetch_sub(count, std::memory_order_acq_rel) == count)
    finish();
}

// No reader, nothing outstanding: this thread is the only one left that may touch the backend
// and the transport. The object lives on until the last of its threads has gone.
void Connection::finish() {
  unwatch(this);
  backend_->close();
  export_name = nullptr;
  transport_->close(reader_->has_unread_input());
  host::log_debug("%s: connection %" PRIu64 " closed", plugin_name.c_str(), number);
  std::function<void()> on_closed = std::move(on_closed_);
  std::shared_ptr<Connection> keep = std::move(self_);
  if (on_closed)
    on_closed();
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
