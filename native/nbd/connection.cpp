// How a connection begins and ends: see connection.hpp.
#include "nbd/connection.hpp"

#include <cinttypes>
#include <utility>

#include "backend/timely_close.hpp"
#include "base/invariant.hpp"
#include "host/log.hpp"

namespace asyncnbd::nbd {

Connection::Connection(Resources &resources, Ends ends, const TransmissionSettings &settings,
                       OnClosed on_closed)
    : shared_(resources, std::move(ends), settings), latency_(shared_.runtime.clock),
      place_(shared_, latency_), loop_(shared_), admission_(shared_),
      completions_(shared_, admission_.memory(), client_waits_, place_),
      reader_(resources, shared_.transport, completions_.requests(), shared_.facts, admission_,
              settings.style),
      client_waits_(shared_.runtime,
                    {shared_.transport, reader_, completions_.replies(), admission_.memory()},
                    shared_.failure, settings.limits.stall_timeout),
      leader_({shared_, admission_, reader_, completions_, client_waits_, place_, loop_, latency_},
              [this] { finish(); }),
      on_closed_(std::move(on_closed)) {
  if (settings.latencies != nullptr)
    reader_.time_requests(shared_.runtime.clock);
}

void Connection::enter(Phase from, Phase to) {
  base::invariant(phase_ == from, "a connection starts once and ends once");
  phase_ = to;
}

bool Connection::start() {
  if (!shared_.transport.is_usable())
    return false;
  enter(Phase::prepared, Phase::serving);
  schedule::IdlePoller &poller = shared_.runtime.idle_poller;
  shared_.life = shared_from_this();
  poller.candidate_begins(shared_.settings.limits.spin_us);
  shared_.ends.client->set_transport(&shared_.transport);
  if (leader_.start())
    return true;

  shared_.ends.client->set_transport(nullptr);
  poller.candidate_ends();
  enter(Phase::serving, Phase::prepared);
  shared_.life.reset();
  return false;
}

// Nothing is outstanding, and this thread is the only one that may still touch the backend and
// the transport. The object lives on until the last of its threads has gone.
void Connection::finish() {
  base::invariant(completions_.in_flight() == 0, "a connection ends when all is answered");
  enter(Phase::serving, Phase::closed);
  leader_.stop_noticing();
  place_.leave();
  loop_.leave();
  if (shared_.runtime.idle_poller.candidate_ends() == 0)
    shared_.resources.page_pipes.close_kept();
  backend::close_in_time(shared_.backend, shared_.resources.of_backends, shared_.time_to_close());
  ClientContext &client = *shared_.ends.client;
  client.export_name = nullptr;
  client.peer_fd = -1;
  shared_.transport.close(reader_.has_unread_input());
  host::log_debug("%s: connection %" PRIu64 " closed", client.plugin_name.c_str(), client.number);
  client.set_transport(nullptr); // which may be gone before the client's context
  const OnClosed on_closed = std::move(on_closed_);
  const std::shared_ptr<void> life = std::move(shared_.life);
  on_closed(shared_from_this());
}

void Connection::stop() {
  shared_.stop_requested.store(true);
  place_.wake_to_stop();
  loop_.wake_to_stop();
}

void Connection::stop(std::chrono::milliseconds grace) {
  shared_.grace_ms.store(grace.count(), std::memory_order_relaxed);
  shared_.stop_by_ms.store(base::in_ms(shared_.runtime.clock.now()) + grace.count(),
                           std::memory_order_relaxed);
  stop();
}

} // namespace asyncnbd::nbd
