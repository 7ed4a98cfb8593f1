// What filters ask of what is behind them, in nbdkit's numbers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/backend.hpp"
#include "host/abi.hpp"

namespace asyncnbd::cplugin {

enum class Fact : uint8_t {
  can_write,
  can_flush,
  is_rotational,
  can_trim,
  can_zero,
  can_fast_zero,
  can_extents,
  can_fua,
  can_multi_conn,
  can_cache,
};

const char *fact_name(Fact fact);
int fact_of(const backend::Facts &facts, Fact fact);
// The callback of the fact, nullptr if there is none.
int (*fact_callback(const nbdkit_filter &table, Fact fact))(nbdkit_next *next, void *handle);

} // namespace asyncnbd::cplugin
