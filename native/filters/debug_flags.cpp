// See debug_flags.hpp.
#include "filters/debug_flags.hpp"

#include <algorithm>
#include <array>

namespace asyncnbd::filters {

namespace {

constexpr std::array<DebugFlag *, 7> FLAGS = {
    &debug::cache_verbose,     &debug::cacheextents_cache, &debug::cow_verbose,
    &debug::extentlist_lookup, &debug::ip_rules,           &debug::protect_write,
    &debug::rate_bucket,
};

} // namespace

bool set_debug_flag(const std::string &filter, const std::string &name, int value) {
  const auto *found = std::find_if(FLAGS.begin(), FLAGS.end(), [&](const DebugFlag *flag) {
    return filter == flag->filter && name == flag->name;
  });
  if (found == FLAGS.end())
    return false;
  (*found)->value.store(value, std::memory_order_relaxed);
  return true;
}

} // namespace asyncnbd::filters
