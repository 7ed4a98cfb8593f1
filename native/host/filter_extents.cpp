// nbdkit_extents_full and nbdkit_extents_aligned, which may ask the backend behind a filter several
// times.
#include <algorithm>
#include <cerrno>

#include "host/abi.hpp"
#include "host/extents_list.hpp"

namespace {

using Extents = asyncnbd::host::ExtentsPointer;

// Makes a list for a range; nullptr on failure, with *err.
Extents list_for(uint64_t offset, uint64_t count, int *err) {
  Extents list(nbdkit_extents_new(offset, offset + count));
  if (list == nullptr)
    *err = errno;
  return list;
}

// Appends to `all` at least one extent from `offset` on.
bool ask_on(nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents *all,
            int *err) {
  const Extents found = list_for(offset, count, err);
  if (found == nullptr || next->extents(next, count, offset, flags, found.get(), err) == -1)
    return false;
  if (found->list.empty()) {
    nbdkit_error("extents succeeded, but added no extents");
    *err = EIO;
    return false;
  }
  for (const nbdkit_extents::Entry &entry : found->list)
    if (nbdkit_add_extent(all, entry.offset, entry.length, static_cast<uint32_t>(entry.type)) ==
        -1) {
      *err = errno;
      return false;
    }
  return true;
}

// Makes one extent for the first unit; `extents` covers the beginning of it.
bool merge_first_unit(nbdkit_next *next, uint64_t offset, uint32_t flags, uint32_t align,
                      nbdkit_extents *extents, int *err) {
  const Extents unit = list_for(offset, align, err);
  if (unit == nullptr)
    return false;
  uint64_t type = UINT64_MAX;
  uint64_t covered = 0;
  for (const nbdkit_extents::Entry &entry : extents->list) {
    if (covered >= align)
      break;
    covered += entry.length;
    type &= entry.type;
  }
  while (covered < align) {
    const Extents more = list_for(offset + covered, align - covered, err);
    if (more == nullptr || !ask_on(next, static_cast<uint32_t>(align - covered), offset + covered,
                                   flags & ~uint32_t{NBDKIT_FLAG_REQ_ONE}, more.get(), err))
      return false;
    for (const nbdkit_extents::Entry &entry : more->list) {
      covered += entry.length;
      type &= entry.type;
    }
  }
  extents->list.assign(1, {offset, align, type});
  extents->next = offset + align;
  return true;
}

} // namespace

extern "C" {

NBDKIT_DLL_PUBLIC struct nbdkit_extents *
nbdkit_extents_full(nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags, int *err) {
  Extents all = list_for(offset, count, err);
  const uint64_t end = offset + count;
  while (all != nullptr && offset < end) {
    if (!ask_on(next, static_cast<uint32_t>(end - offset), offset,
                flags & ~uint32_t{NBDKIT_FLAG_REQ_ONE}, all.get(), err))
      return nullptr;
    offset = std::min(all->next, end);
  }
  return all.release();
}

NBDKIT_DLL_PUBLIC int nbdkit_extents_aligned(nbdkit_next *next, uint32_t count, uint64_t offset,
                                             uint32_t flags, uint32_t align,
                                             struct nbdkit_extents *extents, int *err) {
  if (next->extents(next, count, offset, flags, extents, err) == -1)
    return -1;
  std::vector<nbdkit_extents::Entry> &list = extents->list;
  const auto odd = std::find_if(list.begin(), list.end(),
                                [align](const auto &entry) { return entry.length % align != 0; });
  if (odd == list.end())
    return 0;
  if (odd == list.begin() && odd->length < align)
    return merge_first_unit(next, offset, flags, align, extents, err) ? 0 : -1;
  // The extents before it are a sufficient answer.
  odd->length -= odd->length % align;
  extents->next = odd->offset + odd->length;
  list.erase(odd->length > 0 ? odd + 1 : odd, list.end());
  return 0;
}

} // extern "C"
