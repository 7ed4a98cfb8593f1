/* What async-file does on the calling thread: copying data that is in memory takes less time than
 * passing the request to another thread and back. Large data only if the server lets this thread
 * copy it; and nothing that is known to wait for a disk.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>

#include "async-file.h"

/* More than this takes so long that another thread should do it, if others wait for this one. */
#define MAX_READ_BYTES (32 << 10)
#define MAX_WRITE_BYTES (256 << 10)
/* The same if only this thread's own client waits. */
#define MAX_COPIED_BYTES (4 << 20)
/* A write to the page cache that takes longer than this must have waited: for space on the disk, or
 * for other data to be written out. */
#define SLOW_NS 1000000
#define SLOW_NS_PER_KIB 500
/* After a slow write, this many go to the engine. */
#define WRITES_AFTER_SLOW 64

void decide_what_is_done_at_once(struct handle *handle) {
  struct stat status;
  struct statfs system;
  if (!handle->disk->is_inline || handle->disk->direct || fstat(handle->fd, &status) == -1 ||
      fstatfs(handle->fd, &system) == -1)
    return;
  const bool is_memory = system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
  /* For a device, this is the file system that its name is in, not where its data lies. */
  const bool lies_in_memory = is_memory && S_ISREG(status.st_mode);
  handle->reads = handle->writes = lies_in_memory ? AT_ONCE : IF_CACHED;
  /* ext4 cannot be asked to write only what need not wait, but it seldom waits. */
  if (system.f_type == EXT4_SUPER_MAGIC && S_ISREG(status.st_mode))
    handle->writes = IF_QUICK;
}

/* What may be done at once in one direction, reading or writing, from now on. */
static enum at_once way_of(const enum at_once *direction) {
  return __atomic_load_n(direction, __ATOMIC_RELAXED);
}

/* Returns how much was moved. Not all file systems can be asked to move only what they need not
 * wait for. */
static uint32_t moved(enum at_once *direction, ssize_t result) {
  if (result == -1 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
    __atomic_store_n(direction, NEVER_AT_ONCE, __ATOMIC_RELAXED);
  return result > 0 ? (uint32_t)result : 0;
}

static bool may_copy(void) {
  return nbdkit_async_may_copy != NULL && nbdkit_async_may_copy();
}

uint32_t read_at_once(struct handle *handle, void *buf, uint32_t count, uint64_t offset) {
  const enum at_once way = way_of(&handle->reads);
  if (way == NEVER_AT_ONCE || (count > MAX_READ_BYTES && (count > MAX_COPIED_BYTES || !may_copy())))
    return 0;
  const struct iovec data = {buf, count};
  return moved(&handle->reads,
               preadv2(handle->fd, &data, 1, (off_t)offset, way == IF_CACHED ? RWF_NOWAIT : 0));
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* For file systems where only the time that a write took tells whether it had to wait. Other
 * threads may change the count at the same time: then a few writes more or less go to the engine.
 */
static uint32_t write_if_quick(struct handle *handle, const struct iovec *data, uint64_t offset) {
  const unsigned left = __atomic_load_n(&handle->writes_after_slow, __ATOMIC_RELAXED);
  if (left > 0) {
    __atomic_store_n(&handle->writes_after_slow, left - 1, __ATOMIC_RELAXED);
    return 0;
  }
  const int64_t start_ns = now_ns();
  const ssize_t result = pwritev2(handle->fd, data, 1, (off_t)offset, 0);
  const int64_t allowed_ns = SLOW_NS + (int64_t)(data->iov_len >> 10) * SLOW_NS_PER_KIB;
  if (now_ns() - start_ns > allowed_ns)
    __atomic_store_n(&handle->writes_after_slow, WRITES_AFTER_SLOW, __ATOMIC_RELAXED);
  return moved(&handle->writes, result);
}

uint32_t write_at_once(struct handle *handle, const void *buf, uint32_t count, uint64_t offset) {
  const enum at_once way = way_of(&handle->writes);
  const bool is_large = way == IF_QUICK || count > MAX_WRITE_BYTES;
  if (way == NEVER_AT_ONCE || (is_large && (count > MAX_COPIED_BYTES || !may_copy())))
    return 0;
  const struct iovec data = {(void *)buf, count};
  if (way == IF_QUICK)
    return write_if_quick(handle, &data, offset);
  return moved(&handle->writes,
               pwritev2(handle->fd, &data, 1, (off_t)offset, way == IF_CACHED ? RWF_NOWAIT : 0));
}

/* Data that is in the page cache can be sent from there, without a copy. */
int async_file_read_fd(void *opaque) {
  const struct handle *handle = opaque;
  return handle->reads == NEVER_AT_ONCE ? -1 : handle->fd;
}

/* Not for a file on a disk, because the server would wait for it. */
int async_file_write_fd(void *opaque) {
  const struct handle *handle = opaque;
  return handle->writes == AT_ONCE ? handle->fd : -1;
}
