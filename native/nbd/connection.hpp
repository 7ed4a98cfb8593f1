// One client's transmission phase, from the end of the handshake until all is closed.
#pragma once

#include <functional>
#include <memory>

#include "nbd/client_waits.hpp"
#include "nbd/completions.hpp"
#include "nbd/leader.hpp"
#include "nbd/loop_place.hpp"
#include "nbd/poll_place.hpp"
#include "nbd/request_admission.hpp"
#include "nbd/request_reader.hpp"
#include "nbd/transmission.hpp"

namespace asyncnbd::nbd {

class Connection final : public std::enable_shared_from_this<Connection> {
public:
  // Gets what is closed.
  using OnClosed = std::function<void(std::shared_ptr<const Connection>)>;

  Connection(Resources &resources, Ends ends, const TransmissionSettings &settings,
             OnClosed on_closed);

  // Serves requests until the client leaves, the stream breaks or the server stops, on threads
  // of its own. `on_closed` is called at the very end, on one of them. Keeps itself alive. False,
  // and nothing has begun, if the system has no thread or no descriptor left; then the backend is
  // the caller's again.
  bool start();
  std::unique_ptr<backend::Backend> take_backend() { return std::move(shared_.ends.backend); }

  // Graceful end: answers what has arrived, then closes. Any thread, once started.
  void stop();
  // The same, and all of it within so long from now, instead of the settings' grace.
  void stop(std::chrono::milliseconds grace);
  // Immediate end: nothing more is sent. Any thread, once started.
  void abort() { shared_.transport.abort(); }

  // What has come so far, and what of it has no reply that has left. Any thread.
  const RequestCounters &counters() const { return shared_.counters; }
  uint32_t in_flight() const { return completions_.in_flight(); }

  // Why the connection failed. When all is closed.
  const Failure &failure() const { return shared_.failure; }

  const ClientContext &client() const { return *shared_.ends.client; }

private:
  enum class Phase : uint8_t { prepared, serving, closed };
  void enter(Phase from, Phase to);
  void finish();

  Phase phase_ = Phase::prepared; // of who starts it, then of who leads
  Transmission shared_;
  schedule::CallLatency latency_;
  PollPlace place_;
  LoopPlace loop_;
  RequestAdmission admission_;
  Completions completions_;
  RequestReader reader_;
  ClientWaits client_waits_;
  Leader leader_;
  OnClosed on_closed_;
};

} // namespace asyncnbd::nbd
