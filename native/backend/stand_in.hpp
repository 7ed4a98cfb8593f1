// For the emulation of callbacks that a plugin or a filter does not have: zeroes to write, and a
// limit.
#pragma once

#include <cstdint>

namespace asyncnbd::backend {

// The most that one request may have emulated. Since emulation moves data, more would keep a
// thread, or a turn, for too long; the specification allows us to refuse it.
constexpr uint64_t MAX_STAND_IN_BYTES = UINT32_MAX;

// As many zeroes as a client could write at once, read-only; nullptr if there is no room for them.
// Thread-safe.
uint8_t *zeroes();

} // namespace asyncnbd::backend
