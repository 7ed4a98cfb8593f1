// See filter_facts.hpp.
#include "cplugin/filter_facts.hpp"

#include <array>

namespace asyncnbd::cplugin {

namespace {

using Callback = int (*)(nbdkit_next *, void *);

struct Entry {
  const char *name;
  Callback nbdkit_filter::*callback;
};

constexpr std::array<Entry, static_cast<size_t>(Fact::can_cache) + 1> ENTRIES = {{
    {"can_write", &nbdkit_filter::can_write},
    {"can_flush", &nbdkit_filter::can_flush},
    {"is_rotational", &nbdkit_filter::is_rotational},
    {"can_trim", &nbdkit_filter::can_trim},
    {"can_zero", &nbdkit_filter::can_zero},
    {"can_fast_zero", &nbdkit_filter::can_fast_zero},
    {"can_extents", &nbdkit_filter::can_extents},
    {"can_fua", &nbdkit_filter::can_fua},
    {"can_multi_conn", &nbdkit_filter::can_multi_conn},
    {"can_cache", &nbdkit_filter::can_cache},
}};

const Entry &entry_of(Fact fact) {
  return ENTRIES[static_cast<size_t>(fact)];
}

} // namespace

const char *fact_name(Fact fact) {
  return entry_of(fact).name;
}

Callback fact_callback(const nbdkit_filter &table, Fact fact) {
  return table.*entry_of(fact).callback;
}

int fact_of(const backend::Facts &can, Fact fact) {
  switch (fact) {
  case Fact::can_write:
    return can.can_write;
  case Fact::can_flush:
    return can.can_flush;
  case Fact::is_rotational:
    return can.is_rotational;
  case Fact::can_trim:
    return can.can_write && can.can_trim;
  case Fact::can_zero:
    return can.can_write ? static_cast<int>(can.zero) : NBDKIT_ZERO_NONE;
  case Fact::can_fast_zero:
    return can.can_write && can.can_fast_zero;
  case Fact::can_extents:
    return can.can_extents;
  case Fact::can_fua:
    return can.can_write ? static_cast<int>(can.fua) : NBDKIT_FUA_NONE;
  case Fact::can_multi_conn:
    return can.can_multi_conn;
  case Fact::can_cache:
    return static_cast<int>(can.cache);
  }
  return -1;
}

} // namespace asyncnbd::cplugin
