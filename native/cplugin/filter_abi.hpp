// The layouts of nbdkit's struct nbdkit_filter, which differ between versions. Only the version's
// text tells which layout a filter has.
#pragma once

#include <cstddef>
#include <optional>

#include "host/abi.hpp"

namespace asyncnbd::cplugin {

// A filter's callbacks, whatever version it was built for.
struct FilterTable {
  nbdkit_filter callbacks; // fields that differ between versions are unused
  int (*thread_model)() = nullptr;
  int (*thread_model_of)(int next) = nullptr; // instead, since 1.44: gets the model behind
};

// std::nullopt: the layout of this version is unknown, and only the version has been read.
std::optional<FilterTable> read_filter(const void *registered);

// The versions with a known layout, for messages.
constexpr const char *KNOWN_FILTER_VERSIONS = "1.30 to 1.34, 1.36 to 1.42, 1.44 and 1.45";

static_assert(sizeof(nbdkit_filter) == 328, "as in nbdkit 1.30 to 1.34");
static_assert(offsetof(nbdkit_filter, get_ready) == 88 && offsetof(nbdkit_filter, open) == 136 &&
              offsetof(nbdkit_filter, pread) == 272);
static_assert(sizeof(nbdkit_next_ops) == 176, "as in nbdkit 1.30 to 1.45");

} // namespace asyncnbd::cplugin
