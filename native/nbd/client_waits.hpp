// Waits for a client: they are guarded, so that a client that does not go on is cut after a time.
#pragma once

#include <chrono>
#include <optional>

#include "nbd/failure.hpp"
#include "nbd/memory_account.hpp"
#include "nbd/reply_queue.hpp"
#include "nbd/request_reader.hpp"
#include "schedule/runtime.hpp"
#include "schedule/stall_guard.hpp"
#include "transport/transport.hpp"

namespace asyncnbd::nbd {

class ClientWaits final : private schedule::Stallable {
public:
  // What moves between the client and the server, and what is held meanwhile.
  struct Watched {
    transport::Transport &transport;
    const RequestReader &reader;
    const ReplyQueue &replies;
    const MemoryAccount &memory;
  };
  // `limit`: so long a client may be waited for that does not go on; 0: for ever.
  ClientWaits(schedule::Runtime &runtime, const Watched &watched, Failure &failure,
              std::chrono::milliseconds limit);

  // By the leader. As Transport::wait, but may come back earlier. `owes_input`: the client has
  // begun a request.
  transport::Wait wait(transport::Wanted wanted, int timeout_ms, bool owes_input,
                       bool heed_hang_up);
  // By whoever sends, and cannot.
  void wait_for_room();
  // The leader has not received for a while, whatever the client has sent.
  void has_not_received() { input_meter_.restart(runtime_.clock.now()); }

private:
  // Stallable
  void on_stall(schedule::Stall stall, std::chrono::milliseconds lasts) override;
  schedule::HeldMemory held_memory() const override { return watched_.memory.held(); }

  void guard(std::optional<schedule::GuardedWait> *wait, schedule::Stall stall, int *timeout_ms);
  base::Time slow_since(schedule::Stall stall, base::Time now);

  schedule::Runtime &runtime_;
  const Watched watched_;
  Failure &failure_;
  const std::chrono::milliseconds limit_;
  schedule::StallMeter input_meter_;
  schedule::StallMeter output_meter_;
};

} // namespace asyncnbd::nbd
