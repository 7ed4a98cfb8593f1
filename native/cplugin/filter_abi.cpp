// See filter_abi.hpp.
#include "cplugin/filter_abi.hpp"

#include <cstdio>
#include <cstring>

namespace asyncnbd::cplugin {

namespace {

enum class Layout { unknown, first, with_dump_plugin, with_next_model };

// Versions between two of these are development versions, and may have either layout.
Layout layout_of(const char *version) {
  unsigned major;
  unsigned minor;
  if (version == nullptr || sscanf(version, "%u.%u", &major, &minor) != 2 || major != 1)
    return Layout::unknown;
  if (minor >= 30 && minor <= 34)
    return Layout::first;
  if (minor >= 36 && minor <= 42)
    return Layout::with_dump_plugin;
  return minor == 44 || minor == 45 ? Layout::with_next_model : Layout::unknown;
}

} // namespace

std::optional<FilterTable> read_filter(const void *registered) {
  const auto *bytes = static_cast<const char *>(registered);
  const char *version;
  memcpy(&version, bytes + offsetof(nbdkit_filter, _version), sizeof version);
  const Layout layout = layout_of(version);
  if (layout == Layout::unknown)
    return std::nullopt;
  FilterTable table;
  constexpr size_t SAME_BYTES = offsetof(nbdkit_filter, get_ready);
  const size_t inserted_bytes = layout == Layout::first ? 0 : sizeof(void (*)()); // dump_plugin
  memcpy(&table.callbacks, bytes, SAME_BYTES);
  memcpy(&table.callbacks.get_ready, bytes + SAME_BYTES + inserted_bytes,
         sizeof table.callbacks - SAME_BYTES);
  if (layout == Layout::with_next_model)
    memcpy(&table.thread_model_of, bytes + offsetof(nbdkit_filter, thread_model),
           sizeof table.thread_model_of);
  else
    table.thread_model = table.callbacks.thread_model;
  return table;
}

} // namespace asyncnbd::cplugin
