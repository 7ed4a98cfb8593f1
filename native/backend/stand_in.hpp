// What is written and read in place of a callback that a plugin or a filter does not have.
#pragma once

#include <cstdint>

namespace asyncnbd::backend {

// It moves data, and a client that asks for more would keep a thread, or a turn, for too long: the
// specification allows to refuse that.
constexpr uint64_t MAX_STAND_IN_BYTES = UINT32_MAX;

// As many zeroes as a client could write at once, to be read only; nullptr if there is no room for
// them. Thread-safe.
uint8_t *zeroes();

} // namespace asyncnbd::backend
