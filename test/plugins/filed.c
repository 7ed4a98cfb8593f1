/* The disk of filed.h with the thread model PARALLEL. What pread and pwrite are called for all the
 * same is told in a line each. pwrite=fail: as callbacks do that say nothing of the reason. */

#define _GNU_SOURCE /* memfd_create */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <inttypes.h>

#include "filed.h"

static bool fails;

static int config(const char *key, const char *value) {
  if (strcmp(key, "pwrite") == 0 && strcmp(value, "fail") == 0)
    return fails = true, 0;
  return filed_config(key, value);
}

static int filed_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)flags;
  nbdkit_error("pread count=%" PRIu32 " offset=%" PRIu64, count, offset);
  return pread(*(int *)handle, buf, count, (off_t)offset) == (ssize_t)count ? 0 : -1;
}

static int filed_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                        uint32_t flags) {
  (void)flags;
  nbdkit_error("pwrite count=%" PRIu32 " offset=%" PRIu64, count, offset);
  if (fails)
    return -1;
  return pwrite(*(int *)handle, buf, count, (off_t)offset) == (ssize_t)count ? 0 : -1;
}

static int filed_flush(void *handle, uint32_t flags) {
  (void)handle, (void)flags;
  nbdkit_error("flush");
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "filed",
    .config = config,
    .get_ready = filed_get_ready,
    .unload = filed_unload,
    .open = filed_open,
    .get_size = filed_get_size,
    .pread = filed_pread,
    .pwrite = filed_pwrite,
    .flush = filed_flush,
    .read_fd = filed_fd,
    .write_fd = filed_fd,
    .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)
