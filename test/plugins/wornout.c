/* A disk of 1 MiB of sevens with a hole, whose upper part cannot be read: what a sparse read finds
 * out about it piece by piece.
 */

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define SIZE_BYTES (1 << 20)
#define HOLE_BEGIN (64 << 10)
#define HOLE_END (128 << 10)

static void *wornout_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t wornout_get_size(void *handle) {
  (void)handle;
  return SIZE_BYTES;
}

static int wornout_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle;
  (void)flags;
  if (offset + count > HOLE_END) {
    nbdkit_error("worn out");
    nbdkit_set_error(EIO);
    return -1;
  }
  memset(buf, 7, count);
  return 0;
}

static int wornout_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                           struct nbdkit_extents *extents) {
  (void)handle;
  (void)count;
  (void)offset;
  (void)flags;
  if (nbdkit_add_extent(extents, 0, HOLE_BEGIN, 0) == -1 ||
      nbdkit_add_extent(extents, HOLE_BEGIN, HOLE_END - HOLE_BEGIN,
                        NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) == -1)
    return -1;
  return nbdkit_add_extent(extents, HOLE_END, SIZE_BYTES - HOLE_END, 0);
}

static struct nbdkit_plugin plugin = {
    .name = "wornout",
    .open = wornout_open,
    .get_size = wornout_get_size,
    .pread = wornout_pread,
    .extents = wornout_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
