/* See file-eviction.h.
 *
 * A page can only be evicted once it has been written out, which must not be waited for after each
 * write: so a write only begins that, and is waited for and evicted some writes later.
 */

#define _GNU_SOURCE /* sync_file_range */

#include "file-eviction.h"

#include <errno.h>
#include <fcntl.h>

void file_eviction_begin(struct file_eviction *eviction) {
  pthread_mutex_init(&eviction->lock, NULL);
}

/* As far as it has been written out. */
void file_eviction_end(struct file_eviction *eviction, int fd) {
  file_eviction_flush(eviction, fd); /* nobody is left to be told */
  pthread_mutex_destroy(&eviction->lock);
}

int file_eviction_flush(struct file_eviction *eviction, int fd) {
  pthread_mutex_lock(&eviction->lock);
  const int error = eviction->error;
  eviction->error = 0;
  for (unsigned i = 0; i < EVICTION_WRITES; i++)
    if (eviction->writes[i].count > 0) {
      file_eviction_read(fd, eviction->writes[i].count, eviction->writes[i].offset);
      eviction->writes[i].count = 0;
    }
  pthread_mutex_unlock(&eviction->lock);
  return error;
}

static void keep_error(struct file_eviction *eviction, int error) {
  pthread_mutex_lock(&eviction->lock);
  if (eviction->error == 0)
    eviction->error = error;
  pthread_mutex_unlock(&eviction->lock);
}

/* Files that cannot do that say so at once, and are written out by the system in its own time. */
static void write_out(struct file_eviction *eviction, int fd, uint32_t count, uint64_t offset,
                      unsigned flags) {
  if (sync_file_range(fd, (off_t)offset, (off_t)count, flags) == -1 && errno != ESPIPE &&
      errno != EINVAL && errno != ENOSYS && errno != EINTR)
    keep_error(eviction, errno);
}

void file_eviction_read(int fd, uint32_t count, uint64_t offset) {
  posix_fadvise(fd, (off_t)offset, (off_t)count, POSIX_FADV_DONTNEED);
}

void file_eviction_write(struct file_eviction *eviction, int fd, uint32_t count, uint64_t offset) {
  write_out(eviction, fd, count, offset, SYNC_FILE_RANGE_WRITE);
  pthread_mutex_lock(&eviction->lock);
  const uint64_t old_offset = eviction->writes[eviction->oldest].offset;
  const uint32_t old_count = eviction->writes[eviction->oldest].count;
  eviction->writes[eviction->oldest].offset = offset;
  eviction->writes[eviction->oldest].count = count;
  eviction->oldest = (eviction->oldest + 1) % EVICTION_WRITES;
  pthread_mutex_unlock(&eviction->lock);
  if (old_count == 0)
    return;
  /* Without the lock: others need not wait for the disk. */
  write_out(eviction, fd, old_count, old_offset,
            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  file_eviction_read(fd, old_count, old_offset);
}
