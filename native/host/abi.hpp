// The functions exported to C plugins: those of the public header, and those that only nbdkit's
// filter header declares but to which plugins of a distribution are linked all the same.
#pragma once

#define NBDKIT_API_VERSION 2
#include "include/nbdkit-plugin.h"

extern "C" {

struct nbdkit_export {
  char *name;
  char *description;
};

struct nbdkit_extent {
  uint64_t offset;
  uint64_t length;
  uint32_t type;
};

struct nbdkit_exports *nbdkit_exports_new(void);
void nbdkit_exports_free(struct nbdkit_exports *);
size_t nbdkit_exports_count(const struct nbdkit_exports *);
struct nbdkit_export nbdkit_get_export(const struct nbdkit_exports *, size_t);

struct nbdkit_extents *nbdkit_extents_new(uint64_t start, uint64_t end);
void nbdkit_extents_free(struct nbdkit_extents *);
size_t nbdkit_extents_count(const struct nbdkit_extents *);
struct nbdkit_extent nbdkit_get_extent(const struct nbdkit_extents *, size_t);

} // extern "C"
