/* The shared declarations of the file plugin: an open file, and callbacks. */
#ifndef FILE_H
#define FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "file-eviction.h"
#include "file-mapping.h"

struct handle {
  int fd;
  struct file_mapping *mapping; /* or NULL */
  bool evicts;
  struct file_eviction eviction; /* if it evicts */
  bool is_block_device;
  bool writable;
  unsigned sector_bytes; /* the least that a block device can trim or zero by itself */
  /* True until the file system has refused. Several threads may find out at the same time. */
  atomic_bool can_punch_hole;
  atomic_bool can_zero_range;
  atomic_bool can_allocate;
  atomic_bool can_zero_out;
};

/* Set by -D file.zero=1: logs how ranges are zeroed. */
extern __attribute__((visibility("default"))) int file_debug_zero;

/* file.c */
int file_pwrite(void *opaque, const void *buf, uint32_t count, uint64_t offset, uint32_t flags);
/* Ends a callback that has changed something. */
int file_finish(struct handle *handle, uint32_t flags);

/* file-ranges.c */
int file_zero(void *opaque, uint32_t count, uint64_t offset, uint32_t flags);
int file_trim(void *opaque, uint32_t count, uint64_t offset, uint32_t flags);
int file_can_extents(void *opaque);
int file_extents(void *opaque, uint32_t count, uint64_t offset, uint32_t flags,
                 struct nbdkit_extents *extents);

#endif /* FILE_H */
