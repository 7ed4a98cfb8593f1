// The debug flags of the filters that come with the server, which -D sets. They are nbdkit's, and
// have its names.
#pragma once

#include <atomic>
#include <string>

namespace asyncnbd::filters {

// Shared by all chains of the process, as nbdkit's are variables of a library.
struct DebugFlag {
  const char *const filter;
  const char *const name;
  std::atomic<int> value{0}; // pairs with nothing

  bool is_on() const { return value.load(std::memory_order_relaxed) != 0; }
};

namespace debug {

inline constinit DebugFlag cache_verbose{"cache", "verbose"};
inline constinit DebugFlag cacheextents_cache{"cacheextents", "cache"};
inline constinit DebugFlag cow_verbose{"cow", "verbose"};
inline constinit DebugFlag extentlist_lookup{"extentlist", "lookup"};
inline constinit DebugFlag ip_rules{"ip", "rules"};
inline constinit DebugFlag protect_write{"protect", "write"};
inline constinit DebugFlag rate_bucket{"rate", "bucket"};

} // namespace debug

// False: the filter has no such flag.
bool set_debug_flag(const std::string &filter, const std::string &name, int value);

} // namespace asyncnbd::filters
