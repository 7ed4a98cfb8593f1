/* A disk of 1 MiB in a file without a name, whose descriptor the server may use. What pread and
 * pwrite are called for all the same is told in a line each. fd=append: by a descriptor that
 * splice(2) does not write to. pwrite=fail: as callbacks do that say nothing of the reason. */

#define _GNU_SOURCE /* memfd_create */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (1 << 20)

static int file = -1;
static int named = -1; /* to the server */
static bool is_append;
static bool fails;

static int filed_config(const char *key, const char *value) {
  if (strcmp(key, "fd") == 0 && strcmp(value, "append") == 0)
    return is_append = true, 0;
  if (strcmp(key, "pwrite") == 0 && strcmp(value, "fail") == 0)
    return fails = true, 0;
  nbdkit_error("unknown parameter %s=%s", key, value);
  return -1;
}

static int filed_get_ready(void) {
  char path[64];
  file = memfd_create("filed", MFD_CLOEXEC);
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  named = file == -1 ? -1 : open(path, O_RDWR | O_CLOEXEC | (is_append ? O_APPEND : 0));
  if (named != -1 && ftruncate(file, SIZE) == 0)
    return 0;
  nbdkit_error("cannot make a file: %m");
  return -1;
}

static void filed_unload(void) {
  close(named);
  close(file);
}

static void *filed_open(int readonly) {
  (void)readonly;
  return &file;
}

static int64_t filed_get_size(void *handle) {
  (void)handle;
  return SIZE;
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

static int filed_fd(void *handle) {
  (void)handle;
  return named;
}

static struct nbdkit_plugin plugin = {
    .name = "filed",
    .config = filed_config,
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
