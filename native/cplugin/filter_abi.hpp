// The layouts of nbdkit's struct nbdkit_filter, which differ between its versions and say so only
// by the text of the version.
#pragma once

#include <cstddef>
#include <optional>

#include "host/abi.hpp"

namespace asyncnbd::cplugin {

// A filter's callbacks, whatever the version it was built for.
struct FilterTable {
  nbdkit_filter callbacks; // where what differs is not used
  int (*thread_model)() = nullptr;
  int (*thread_model_of)(int next) = nullptr; // instead, since 1.44: it gets that of what is behind
};

// std::nullopt: the layout of this version is not known, and nothing but the version was read.
std::optional<FilterTable> read_filter(const void *registered);

// The versions of which it is known, for people.
constexpr const char *KNOWN_FILTER_VERSIONS = "1.30 to 1.34, 1.36 to 1.42, 1.44 and 1.45";

static_assert(sizeof(nbdkit_filter) == 328, "as in nbdkit 1.30 to 1.34");
static_assert(offsetof(nbdkit_filter, get_ready) == 88 && offsetof(nbdkit_filter, open) == 136 &&
              offsetof(nbdkit_filter, pread) == 272);
static_assert(sizeof(nbdkit_next_ops) == 176, "as in nbdkit 1.30 to 1.45");

} // namespace asyncnbd::cplugin
