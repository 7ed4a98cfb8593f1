/* See file-eviction.h.
 *
 * A page can only be evicted once it has been written out, which must not be waited for after each
 * write: so a write only begins that, and is waited for and evicted some writes later.
 */

#define _GNU_SOURCE /* sync_file_range */

#include "file-eviction.h"

#include <fcntl.h>

void file_eviction_begin(struct file_eviction *eviction) {
  pthread_mutex_init(&eviction->lock, NULL);
}

/* As far as it has been written out. */
void file_eviction_end(struct file_eviction *eviction, int fd) {
  file_eviction_flush(eviction, fd);
  pthread_mutex_destroy(&eviction->lock);
}

void file_eviction_flush(struct file_eviction *eviction, int fd) {
  pthread_mutex_lock(&eviction->lock);
  for (unsigned i = 0; i < EVICTION_WRITES; i++)
    if (eviction->writes[i].count > 0) {
      file_eviction_read(fd, eviction->writes[i].count, eviction->writes[i].offset);
      eviction->writes[i].count = 0;
    }
  pthread_mutex_unlock(&eviction->lock);
}

void file_eviction_read(int fd, uint32_t count, uint64_t offset) {
  posix_fadvise(fd, (off_t)offset, (off_t)count, POSIX_FADV_DONTNEED);
}

void file_eviction_write(struct file_eviction *eviction, int fd, uint32_t count, uint64_t offset) {
  sync_file_range(fd, (off_t)offset, (off_t)count, SYNC_FILE_RANGE_WRITE);
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
  sync_file_range(fd, (off_t)old_offset, (off_t)old_count,
                  SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  file_eviction_read(fd, old_count, old_offset);
}
