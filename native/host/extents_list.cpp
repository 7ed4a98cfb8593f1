// nbdkit_add_extent and the list of extents it fills.
#include <cerrno>
#include <cinttypes>
#include <vector>

#include "host/abi.hpp"

namespace {

constexpr size_t MAX_EXTENTS = 1 << 20; // as nbdkit's: what is added after them is dropped

}

struct nbdkit_extents {
  uint64_t start; // the first byte asked about
  uint64_t end;   // the end of the export
  uint64_t next;  // where the next extent must begin; only meaningful once one was added
  bool any_added;
  std::vector<nbdkit_extent> list;
};

namespace {

bool is_contiguous(const nbdkit_extents *extents, uint64_t offset) {
  if (!extents->any_added || offset == extents->next)
    return true;
  nbdkit_error("nbdkit_add_extent: extents must ascend without gaps: expected offset %" PRIu64
               " but got %" PRIu64,
               extents->next, offset);
  errno = ERANGE;
  return false;
}

void append(nbdkit_extents *extents, uint64_t offset, uint64_t length, uint32_t type) {
  if (extents->list.size() >= MAX_EXTENTS)
    return; // nor join: something in between may have been dropped
  if (!extents->list.empty() && extents->list.back().type == type)
    extents->list.back().length += length;
  else
    extents->list.push_back({offset, length, type});
}

} // namespace

extern "C" {

NBDKIT_DLL_PUBLIC struct nbdkit_extents *nbdkit_extents_new(uint64_t start, uint64_t end) {
  if (start > end || end > INT64_MAX) {
    nbdkit_error("nbdkit_extents_new: start %" PRIu64 " and end %" PRIu64 " make no range", start,
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
  return extents->list.at(index);
}

NBDKIT_DLL_PUBLIC int nbdkit_add_extent(struct nbdkit_extents *extents, uint64_t offset,
                                        uint64_t length, uint32_t type) {
  uint64_t end;
  if (__builtin_add_overflow(offset, length, &end)) {
    nbdkit_error("nbdkit_add_extent: offset %" PRIu64 " and length %" PRIu64 " overflow", offset,
                 length);
    errno = ERANGE;
    return -1;
  }
  if (!is_contiguous(extents, offset))
    return -1;
  extents->next = end;
  extents->any_added = true;
  if (length == 0)
    return 0;

  // Plugins may describe the whole disk; what lies outside the range asked for is cut off.
  uint64_t from = offset < extents->start ? extents->start : offset;
  uint64_t to = end > extents->end ? extents->end : end;
  if (from >= to)
    return 0;
  if (extents->list.empty() && from > extents->start) {
    nbdkit_error("nbdkit_add_extent: the first extent must cover offset %" PRIu64
                 " but begins at %" PRIu64,
                 extents->start, offset);
    errno = ERANGE;
    return -1;
  }
  append(extents, from, to - from, type);
  return 0;
}

} // extern "C"
