/* A disk of 4 MiB that lends its data, but for the last MiB, which it copies. Each block of 4 KiB
 * has its number in every byte; what pread copies has the highest bit set. The second MiB is a
 * hole. model=serialize|parallel: the thread model. */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <stdlib.h>
#include <string.h>

#define MIB (1 << 20)
#define SIZE (4 * MIB)
#define BLOCK 4096
#define COPIED 0x80

static int model = NBDKIT_THREAD_MODEL_PARALLEL;
static unsigned char disk[SIZE];

static void lender_load(void) {
  for (size_t i = 0; i < SIZE; i++)
    disk[i] = i / MIB == 1 ? 0 : i / BLOCK & ~COPIED;
}

static int lender_config(const char *key, const char *value) {
  if (strcmp(key, "model") != 0) {
    nbdkit_error("unknown parameter %s", key);
    return -1;
  }
  if (strcmp(value, "serialize") == 0)
    model = NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS;
  return 0;
}

static int lender_thread_model(void) {
  return model;
}

static void *lender_open(int readonly) {
  (void)readonly;
  return disk;
}

static int64_t lender_get_size(void *handle) {
  (void)handle;
  return SIZE;
}

static int lender_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)flags;
  const unsigned char *from = (unsigned char *)handle + offset;
  for (uint32_t i = 0; i < count; i++)
    ((unsigned char *)buf)[i] = from[i] | COPIED;
  return 0;
}

static int lender_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents) {
  (void)handle, (void)count, (void)offset, (void)flags;
  return nbdkit_add_extent(extents, 0, MIB, 0) == -1 ||
                 nbdkit_add_extent(extents, MIB, MIB, NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) ==
                     -1 ||
                 nbdkit_add_extent(extents, 2 * MIB, 2 * MIB, 0) == -1
             ? -1
             : 0;
}

static const void *lender_lend(void *handle, uint32_t count, uint64_t offset) {
  return offset + count <= 3 * MIB ? (const unsigned char *)handle + offset : NULL;
}

static struct nbdkit_plugin plugin = {
    .name = "lender",
    .load = lender_load,
    .config = lender_config,
    .thread_model = lender_thread_model,
    .open = lender_open,
    .get_size = lender_get_size,
    .pread = lender_pread,
    .extents = lender_extents,
    .lend = lender_lend,
};

NBDKIT_REGISTER_PLUGIN(plugin)
