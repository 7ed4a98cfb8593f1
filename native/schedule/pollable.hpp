// What waits for its client in an idle poller.
#pragma once

#include <cstddef>
#include <memory>

#include "schedule/send_ahead_limit.hpp"

namespace asyncnbd::schedule {

class Pollable {
public:
  virtual ~Pollable() = default;

  // What a turn has sent, and to whom.
  struct Turn {
    std::weak_ptr<const Receiver> client;
    size_t reply_bytes = 0;
  };

  // Its client has sent something, or it was woken. The calling thread has it until it waits again
  // or is removed; from then on it may be gone.
  virtual Turn resume() = 0;

  // It has waited for long: gives back the memory that it keeps for speed. By the thread that has
  // it. False: there may be more to give back later, without a turn in between.
  virtual bool release_idle_memory() = 0;
};

} // namespace asyncnbd::schedule
