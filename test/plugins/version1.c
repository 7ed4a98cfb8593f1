/* A plugin of API version 1, whose callbacks have no flags and which relies on emulation. */

#include <stdint.h>
#include <string.h>

#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS
#define SIZE_BYTES (INT64_C(1) << 20)

static uint8_t disk[SIZE_BYTES];
static int flushes = 0;

static void *version1_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t version1_get_size(void *handle) {
  (void)handle;
  return SIZE_BYTES;
}

static int version1_pread(void *handle, void *buf, uint32_t count, uint64_t offset) {
  (void)handle;
  memcpy(buf, disk + offset, count);
  return 0;
}

static int version1_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset) {
  (void)handle;
  memcpy(disk + offset, buf, count);
  return 0;
}

/* Leaves the number of flushes in the disk's last byte, for clients to see. */
static int version1_flush(void *handle) {
  (void)handle;
  disk[SIZE_BYTES - 1] = (uint8_t)++flushes;
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "version1",
    .open = version1_open,
    .get_size = version1_get_size,
    .pread = version1_pread,
    .pwrite = version1_pwrite,
    .flush = version1_flush,
};

NBDKIT_REGISTER_PLUGIN(plugin)
