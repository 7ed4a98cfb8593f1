// What a connection does for its client at most, and for how long: src/client-limits.ts has the
// same limits, with their ranges and defaults, and the words of the command line.
#pragma once

#include <chrono>
#include <cstdint>

namespace asyncnbd::nbd {

struct ClientLimits {
  // Calls in progress at once, if the thread model allows more than one.
  unsigned threads;
  // How long to look for requests before sleeping.
  unsigned spin_us;
  // How long requests that stay unanswered keep a connection that has ended otherwise.
  std::chrono::milliseconds grace;
  // How long a client may be waited for that does not go on; 0: for ever.
  std::chrono::milliseconds stall_timeout;
  // Of requests in flight.
  uint64_t in_flight_bytes;

  // `number_of` gives a whole number for each name of a limit in TypeScript.
  template <typename NumberOf> static ClientLimits from(const NumberOf &number_of) {
    return {
        .threads = static_cast<unsigned>(number_of("threads")),
        .spin_us = static_cast<unsigned>(number_of("spinUs")),
        .grace = std::chrono::milliseconds(number_of("graceMs")),
        .stall_timeout = std::chrono::milliseconds(number_of("stallTimeoutMs")),
        .in_flight_bytes = static_cast<uint64_t>(number_of("maxConnectionInFlightBytes")),
    };
  }
};

} // namespace asyncnbd::nbd
