/* A disk of 1 MiB whose reads fill only the first byte of what they promise; reads of whole
 * blocks below 64 KiB are as they should be.
 */

#include <stdint.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define SIZE_BYTES (1 << 20)
#define FILLED_BYTES (64 << 10)

static uint8_t disk[SIZE_BYTES];

static void *partfill_open(int readonly) {
  (void)readonly;
  return disk;
}

static int64_t partfill_get_size(void *handle) {
  (void)handle;
  return SIZE_BYTES;
}

static int partfill_pread(void *handle, void *buf, uint32_t count, uint64_t offset,
                          uint32_t flags) {
  (void)handle;
  (void)flags;
  memcpy(buf, disk + offset, offset < FILLED_BYTES ? count : 1);
  return 0;
}

static int partfill_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                           uint32_t flags) {
  (void)handle;
  (void)flags;
  memcpy(disk + offset, buf, count);
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "partfill",
    .open = partfill_open,
    .get_size = partfill_get_size,
    .pread = partfill_pread,
    .pwrite = partfill_pwrite,
};

NBDKIT_REGISTER_PLUGIN(plugin)
