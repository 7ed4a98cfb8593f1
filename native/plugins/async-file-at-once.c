/* What async-file does on the thread that asks: small data in memory are moved sooner than they are
 * passed on to another thread and back. That thread may be one that must not wait, so nothing is
 * done here that could wait for a disk.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "async-file.h"

/* More than this takes so long that another thread had better do it meanwhile. */
#define MAX_READ_BYTES (32 << 10)
#define MAX_WRITE_BYTES (256 << 10)

void decide_what_is_done_at_once(struct handle *handle) {
  struct stat status;
  struct statfs system;
  if (!handle->disk->is_inline || handle->disk->direct || fstat(handle->fd, &status) == -1 ||
      fstatfs(handle->fd, &system) == -1)
    return;
  const bool is_memory = system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
  /* A device's file system is not the one that its name is in. */
  const bool lies_in_memory = is_memory && S_ISREG(status.st_mode);
  handle->reads = handle->writes = lies_in_memory ? AT_ONCE : IF_CACHED;
}

/* Of one direction: what may be done from now on. */
static enum at_once way_of(const enum at_once *direction) {
  return __atomic_load_n(direction, __ATOMIC_RELAXED);
}

/* Not all file systems can be asked to move only what they need not wait for. */
static uint32_t moved(enum at_once *direction, ssize_t result) {
  if (result == -1 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
    __atomic_store_n(direction, NEVER_AT_ONCE, __ATOMIC_RELAXED);
  return result > 0 ? (uint32_t)result : 0;
}

uint32_t read_at_once(struct handle *handle, void *buf, uint32_t count, uint64_t offset) {
  const enum at_once way = way_of(&handle->reads);
  if (way == NEVER_AT_ONCE || count > MAX_READ_BYTES)
    return 0;
  const struct iovec data = {buf, count};
  return moved(&handle->reads,
               preadv2(handle->fd, &data, 1, (off_t)offset, way == IF_CACHED ? RWF_NOWAIT : 0));
}

uint32_t write_at_once(struct handle *handle, const void *buf, uint32_t count, uint64_t offset) {
  const enum at_once way = way_of(&handle->writes);
  if (way == NEVER_AT_ONCE || count > MAX_WRITE_BYTES)
    return 0;
  const struct iovec data = {(void *)buf, count};
  return moved(&handle->writes,
               pwritev2(handle->fd, &data, 1, (off_t)offset, way == IF_CACHED ? RWF_NOWAIT : 0));
}
