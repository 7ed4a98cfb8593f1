// nbdkit_add_meta_context.
#include "host/contexts_list.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "host/abi.hpp"
#include "wire/constants.hpp"

namespace {

// The most that a client may select, and that a script can be asked about.
constexpr size_t MAX_CONTEXTS = 63;

// "Metadata querying": a namespace, a colon and a leaf; "base:" is not for plugins.
bool is_context_name(const char *name) {
  const char *colon = strchr(name, ':');
  return colon != nullptr && colon != name && colon[1] != '\0' && strncmp(name, "base:", 5) != 0 &&
         strlen(name) <= asyncnbd::wire::MAX_STRING_BYTES;
}

} // namespace

extern "C" {

NBDKIT_DLL_PUBLIC int nbdkit_add_meta_context(struct asyncnbd_meta_contexts *contexts,
                                              const char *name, unsigned bits) {
  const bool is_there = std::any_of(contexts->entries.begin(), contexts->entries.end(),
                                    [name](const auto &entry) { return entry.name == name; });
  if (!is_context_name(name) || (bits != 32 && bits != 64) || is_there ||
      contexts->entries.size() == MAX_CONTEXTS) {
    nbdkit_error("nbdkit_add_meta_context: cannot add \"%s\" with %u bits: names are unique and "
                 "like x-example:dirty, at most %zu of them, with 32 or 64 bits",
                 name, bits, MAX_CONTEXTS);
    errno = EINVAL;
    return -1;
  }
  contexts->entries.push_back({name, bits});
  return 0;
}

} // extern "C"
