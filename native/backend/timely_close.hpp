// Closes a backend whose close may wait for an answer that never comes: for example, a filter's own
// thread reads ahead, and the filter's close waits for that thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "backend/backend.hpp"
#include "backend/resources.hpp"

namespace asyncnbd::backend {

// Returns once it is closed. After the grace period, repeatedly gives up what is still in flight;
// at once, and once, if the system has no thread for a timer. May block.
void close_in_time(Backend &backend, const Resources &resources, std::chrono::milliseconds grace);

// Repeatedly gives up requests in flight that nobody waits for any more, until none is left:
// `in_flight` pairs with a decrement that releases. May block.
void give_up_all(Backend &backend, const std::atomic<uint32_t> &in_flight);

} // namespace asyncnbd::backend
