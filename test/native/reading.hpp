// A reader of requests on a socket, with what a connection would give it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <thread>
#include <utility>
#include <vector>

#include "nbd/intake.hpp"
#include "support.hpp"
#include "system_resources.hpp"

namespace reading {

using namespace asyncnbd;
using nbd::PendingRequest;

constexpr uint64_t SIZE = UINT64_C(1) << 32;
constexpr uint16_t FLAGS = wire::NBD_FLAG_HAS_FLAGS | wire::NBD_FLAG_SEND_FLUSH;

class NoMaker final : public backend::Maker {
  void complete(backend::Request &, int) override {}
  void give_up(backend::Request &, int) override {}
  void release(backend::Request &) override {}
  bool client_has_gone() const override { return false; }
};

struct Charging final : nbd::Admission {
  uint64_t charged_bytes = 0;
  uint64_t most_charged_bytes = 0;
  uint32_t besides = 0;
  bool is_open = true;
  bool admit(nbd::MemoryCharge &charge, uint64_t bytes) override {
    charged_bytes += is_open ? bytes : 0;
    charge.shared_bytes += is_open ? bytes : 0;
    most_charged_bytes = std::max(most_charged_bytes, charged_bytes);
    return is_open;
  }
  void withdraw(const nbd::MemoryCharge &charge) override { charged_bytes -= charge.bytes(); }
  backend::Reservation reserve(backend::Request &request) override {
    if (!reserves || request.type != wire::NBD_CMD_WRITE)
      return {nullptr, takes_pages};
    taken.emplace_back(request.length_bytes);
    return {taken.back().data(), takes_pages, spares_copy};
  }
  void unreserve(backend::Request &) override { unreserved++; }
  uint32_t bytes_besides(uint16_t, uint64_t) const override { return besides; }
  bool reserves = false;
  bool takes_pages = false;
  bool spares_copy = false;
  std::deque<std::vector<uint8_t>> taken;
  unsigned unreserved = 0;
};

// Waits for the client, or does as if it had.
struct Waiting final : nbd::LeaderWaits {
  explicit Waiting(transport::Transport &transport) : transport(transport) {}
  transport::Transport &transport;
  transport::Wait wait(transport::Wanted wanted, int timeout_ms, bool) override {
    waits_ms.push_back(timeout_ms);
    if (seconds_without_input > 0) {
      seconds_without_input--;
      return transport::Wait::timed_out;
    }
    std::exchange(then, [] {})();
    return transport.wait(wanted, timeout_ms);
  }
  bool has_idled() override {
    idled++;
    return idled > seconds_in_flight;
  }
  bool waits_in_poller(bool) override { return elsewhere; }
  void waits_here() override {}
  bool wait_for_memory() override {
    waits_for_memory++;
    return std::exchange(on_wait_for_memory, [] { return false; })();
  }
  unsigned seconds_without_input = 0;
  unsigned seconds_in_flight = 0; // of those
  unsigned idled = 0;
  unsigned waits_for_memory = 0;
  std::function<void()> then = [] {};
  std::function<bool()> on_wait_for_memory = [] { return false; };
  std::vector<int> waits_ms;
  bool elsewhere = false;
};

struct Reading final : nbd::ReplyListener {
  explicit Reading(Over over = Over::unix_socket) : sockets(over) {}
  SocketPair sockets;
  nbd::Resources &resources = system_resources();
  transport::Transport transport{resources.page_pipes, sockets.server, sockets.server, -1};
  nbd::ReplyQueue replies{transport, *this};
  nbd::ExportFacts facts{SIZE, FLAGS, {}};
  NoMaker maker;
  std::atomic<bool> stop{false};
  Charging charging;
  Waiting waiting{transport};
  base::SystemClock clock;
  schedule::SpinLimit spin_limit{1};
  nbd::RequestPool requests{resources, maker, wire::ReplyStyle::simple};
  nbd::RequestReader reader{resources, transport, requests, facts, charging};
  nbd::Intake intake{{transport, reader, requests, replies, waiting, stop},
                     {clock, spin_limit, 0},
                     nbd::WhenFull::wait};

  PendingRequest *next() { return intake.next(); }
  void on_sent(PendingRequest *, uint32_t) override {}
  void on_full() override {}
  // For the client: until all it has sent so far has been received.
  void wait_until_read() const {
    int unread = 1;
    while (unread > 0) {
      REQUIRE(ioctl(sockets.server, SIOCINQ, &unread) == 0);
      std::this_thread::yield();
    }
  }
  // Gives everything of a request back, as a connection does once its reply has left.
  void finish(PendingRequest *request) {
    request->reply_buffer->unref();
    if (request->payload_buffer != nullptr)
      request->payload_buffer->unref();
    charging.charged_bytes -= request->charge.bytes();
    using Stage = PendingRequest::Stage;
    request->enter(Stage::incoming, Stage::in_flight);
    request->enter(Stage::in_flight, Stage::answered);
    request->enter(Stage::answered, Stage::free);
    requests.recycle(request, request);
  }
};

inline std::vector<uint8_t> joined(const std::vector<uint8_t> &first,
                                   const std::vector<uint8_t> &second) {
  std::vector<uint8_t> bytes(first.size() + second.size());
  std::copy(first.begin(), first.end(), bytes.begin());
  std::copy(second.begin(), second.end(), bytes.begin() + static_cast<ptrdiff_t>(first.size()));
  return bytes;
}

inline std::vector<uint8_t> write_request(uint64_t cookie, uint64_t offset,
                                          const std::vector<uint8_t> &payload) {
  auto bytes =
      encode_request(wire::NBD_CMD_WRITE, cookie, offset, static_cast<uint32_t>(payload.size()));
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

inline std::vector<uint8_t> pattern(size_t bytes, uint8_t seed) {
  std::vector<uint8_t> data(bytes);
  for (size_t i = 0; i < bytes; i++)
    data[i] = static_cast<uint8_t>(seed + i * 31 + (i >> 8));
  return data;
}

// Of a write, wherever it is.
inline std::vector<uint8_t> payload_of(PendingRequest *request) {
  std::vector<uint8_t> bytes(request->length_bytes);
  if (request->pages)
    REQUIRE(request->pages->take_out(bytes.data()) == bytes.size());
  else
    memcpy(bytes.data(), request->data, bytes.size());
  return bytes;
}

} // namespace reading
