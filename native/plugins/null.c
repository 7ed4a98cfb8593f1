/* A disk that reads as zeroes and forgets what is written. */

#include <inttypes.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

struct disk {
  int64_t size_bytes;
};

static struct disk only_disk; /* under nbdkit */

static struct disk *this_disk(void) {
  return asyncnbd_instance != NULL ? asyncnbd_instance() : &only_disk;
}

static int null_config(const char *key, const char *value) {
  if (strcmp(key, "size") != 0) {
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
  }
  struct disk *disk = this_disk();
  disk->size_bytes = nbdkit_parse_size(value);
  return disk->size_bytes == -1 ? -1 : 0;
}

static void *null_open(int readonly) {
  (void)readonly;
  return this_disk();
}

static int64_t null_get_size(void *handle) {
  const struct disk *disk = handle;
  return disk->size_bytes;
}

static int null_can_multi_conn(void *handle) {
  (void)handle;
  return 1;
}

static int null_can_cache(void *handle) {
  (void)handle;
  return NBDKIT_CACHE_NATIVE;
}

static int null_can_fast_zero(void *handle) {
  (void)handle;
  return 1;
}

static int null_can_fua(void *handle) {
  (void)handle;
  return NBDKIT_FUA_NATIVE;
}

static int null_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)offset, (void)flags;
  memset(buf, 0, count);
  return 0;
}

static int null_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                       uint32_t flags) {
  (void)handle, (void)buf, (void)count, (void)offset, (void)flags;
  return 0;
}

static int null_flush(void *handle, uint32_t flags) {
  (void)handle, (void)flags;
  return 0;
}

/* Serves trim and zero. */
static int null_discard(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)count, (void)offset, (void)flags;
  return 0;
}

static int null_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                        struct nbdkit_extents *extents) {
  (void)count, (void)flags;
  const struct disk *disk = handle;
  return nbdkit_add_extent(extents, offset, (uint64_t)disk->size_bytes - offset,
                           NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
}

static struct nbdkit_plugin plugin = {
    .name = "null",
    .version = "1.0.0",
    .longname = "asyncnbd null plugin",
    .description = "A disk that reads as zeroes and forgets what is written.",
    .config = null_config,
    .config_help = "size=<SIZE>             The size of the disk, 0 by default.",
    .magic_config_key = "size",
    .open = null_open,
    .get_size = null_get_size,
    .can_multi_conn = null_can_multi_conn,
    .can_cache = null_can_cache,
    .can_fast_zero = null_can_fast_zero,
    .can_fua = null_can_fua,
    .pread = null_pread,
    .pwrite = null_pwrite,
    .flush = null_flush,
    .trim = null_discard,
    .zero = null_discard,
    .extents = null_extents,
    .errno_is_preserved = 1,
    .instance_bytes = sizeof(struct disk),
};

NBDKIT_REGISTER_PLUGIN(plugin)
