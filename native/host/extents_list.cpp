// nbdkit_add_extent, nbdkit_add_status and the list they fill.
#include "host/extents_list.hpp"

#include <cerrno>
#include <cinttypes>

#include "host/abi.hpp"

namespace {

constexpr size_t MAX_EXTENTS = 1 << 20; // as in nbdkit: further ones are dropped

bool is_contiguous(const nbdkit_extents *extents, uint64_t offset, const char *caller) {
  if (!extents->any_added || offset == extents->next)
    return true;
  nbdkit_error("%s: extents must ascend without gaps: expected offset %" PRIu64 " but got %" PRIu64,
               caller, extents->next, offset);
  errno = ERANGE;
  return false;
}

void append(nbdkit_extents *extents, uint64_t offset, uint64_t length, uint64_t type) {
  if (extents->list.size() >= MAX_EXTENTS)
    return; // must not be joined either: extents in between may have been dropped
  if (!extents->list.empty() && extents->list.back().type == type)
    extents->list.back().length += length;
  else
    extents->list.push_back({offset, length, type});
}

// nbdkit_add_extent or nbdkit_add_status; `caller` is the name.
int add(nbdkit_extents *extents, uint64_t offset, uint64_t length, uint64_t type,
        const char *caller) {
  uint64_t end;
  if (__builtin_add_overflow(offset, length, &end)) {
    nbdkit_error("%s: offset %" PRIu64 " and length %" PRIu64 " overflow", caller, offset, length);
    errno = ERANGE;
    return -1;
  }
  if (!is_contiguous(extents, offset, caller))
    return -1;
  extents->next = end;
  extents->any_added = true;
  if (length == 0)
    return 0;

  // Plugins may describe the whole disk; parts outside the requested range are cut off.
  uint64_t from = offset < extents->start ? extents->start : offset;
  uint64_t to = end > extents->end ? extents->end : end;
  if (from >= to)
    return 0;
  if (extents->list.empty() && from > extents->start) {
    nbdkit_error("%s: the first extent must cover offset %" PRIu64 " but begins at %" PRIu64,
                 caller, extents->start, offset);
    errno = ERANGE;
    return -1;
  }
  append(extents, from, to - from, type);
  return 0;
}

} // namespace

extern "C" {

NBDKIT_DLL_PUBLIC struct nbdkit_extents *nbdkit_extents_new(uint64_t start, uint64_t end) {
  if (start > end || end > INT64_MAX) {
    nbdkit_error("nbdkit_extents_new: start %" PRIu64 " and end %" PRIu64 " are not a range", start,
                 end);
    errno = ERANGE;
    return nullptr;
  }
  return new nbdkit_extents{start, end, 0, false, {}};
}

NBDKIT_DLL_PUBLIC void nbdkit_extents_free(struct nbdkit_extents *extents) {
  delete extents;
}

NBDKIT_DLL_PUBLIC size_t nbdkit_extents_count(const struct nbdkit_extents *extents) {
  return extents->list.size();
}

NBDKIT_DLL_PUBLIC struct nbdkit_extent nbdkit_get_extent(const struct nbdkit_extents *extents,
                                                         size_t index) {
  const nbdkit_extents::Entry &entry = extents->list.at(index);
  return {entry.offset, entry.length, static_cast<uint32_t>(entry.type)};
}

NBDKIT_DLL_PUBLIC int nbdkit_add_extent(struct nbdkit_extents *extents, uint64_t offset,
                                        uint64_t length, uint32_t type) {
  return add(extents, offset, length, type, "nbdkit_add_extent");
}

NBDKIT_DLL_PUBLIC int nbdkit_add_status(struct nbdkit_extents *extents, uint64_t offset,
                                        uint64_t length, uint64_t status) {
  return add(extents, offset, length, status, "nbdkit_add_status");
}

} // extern "C"
