// Closes what may wait for an answer that never comes: a filter's own thread reads ahead, say, and
// the filter's close waits for that thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "backend/backend.hpp"
#include "backend/resources.hpp"

namespace asyncnbd::backend {

// Returns once it is closed. After the grace, gives up what is still in flight, again and again.
// May block.
void close_in_time(Backend &backend, const Resources &resources, std::chrono::milliseconds grace);

// Gives up what is in flight and nobody waits for any more, again and again, and returns once there
// is none: `in_flight` pairs with a decrement that releases. May block.
void give_up_all(Backend &backend, const std::atomic<uint32_t> &in_flight);

} // namespace asyncnbd::backend
