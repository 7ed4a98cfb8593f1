// nbdkit_add_export and nbdkit_use_default_export, and the list they fill.
#include "host/exports_list.hpp"

#include <cerrno>
#include <cstring>

#include "host/abi.hpp"
#include "wire/constants.hpp"

namespace {

constexpr size_t MAX_EXPORTS = 10000; // as in nbdkit

bool has_room(const nbdkit_exports *exports) {
  if (exports->entries.size() < MAX_EXPORTS)
    return true;
  nbdkit_error("nbdkit_add_export: more than %zu exports", MAX_EXPORTS);
  errno = EINVAL;
  return false;
}

bool fits(const char *what, const char *text) {
  if (strnlen(text, asyncnbd::wire::MAX_STRING_BYTES + 1) <= asyncnbd::wire::MAX_STRING_BYTES)
    return true;
  nbdkit_error("nbdkit_add_export: %s is longer than %zu bytes", what,
               asyncnbd::wire::MAX_STRING_BYTES);
  errno = EINVAL;
  return false;
}

} // namespace

extern "C" {

NBDKIT_DLL_PUBLIC int nbdkit_add_export(struct nbdkit_exports *exports, const char *name,
                                        const char *description) {
  if (!has_room(exports) || !fits("name", name) ||
      (description != nullptr && !fits("description", description)))
    return -1;
  nbdkit_exports::Entry entry{name, std::nullopt, false};
  if (description != nullptr)
    entry.description = description;
  exports->entries.push_back(std::move(entry));
  return 0;
}

NBDKIT_DLL_PUBLIC int nbdkit_use_default_export(struct nbdkit_exports *exports) {
  if (!has_room(exports))
    return -1;
  exports->entries.push_back({"", std::nullopt, true});
  return 0;
}

NBDKIT_DLL_PUBLIC struct nbdkit_exports *nbdkit_exports_new(void) {
  return new nbdkit_exports;
}

NBDKIT_DLL_PUBLIC void nbdkit_exports_free(struct nbdkit_exports *exports) {
  delete exports;
}

NBDKIT_DLL_PUBLIC size_t nbdkit_exports_count(const struct nbdkit_exports *exports) {
  return exports->entries.size();
}

NBDKIT_DLL_PUBLIC struct nbdkit_export nbdkit_get_export(const struct nbdkit_exports *exports,
                                                         size_t index) {
  const nbdkit_exports::Entry &entry = exports->entries.at(index);
  // The interface has no const; callers only read.
  return {const_cast<char *>(entry.name.c_str()),
          entry.description ? const_cast<char *>(entry.description->c_str()) : nullptr};
}

} // extern "C"
