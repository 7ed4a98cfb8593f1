/* See file-eviction.h.
 *
 * A page can only be evicted after it has been written out, and waiting for that after each write
 * would be slow. So a write only starts it; some writes later it is waited for, and the pages are
 * evicted.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sync_file_range */
#endif

#include "file-eviction.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void file_eviction_errors_begin(struct file_eviction_errors *errors) {
  pthread_rwlockattr_t attributes;
  pthread_rwlockattr_init(&attributes);
  /* Otherwise a flush would wait as long as there are writes. */
  pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  pthread_rwlock_init(&errors->lock, &attributes);
  pthread_rwlockattr_destroy(&attributes);
}

void file_eviction_errors_end(struct file_eviction_errors *errors) {
  pthread_rwlock_destroy(&errors->lock);
}

void file_eviction_begin(struct file_eviction *eviction, struct file_eviction_errors *shared) {
  pthread_mutex_init(&eviction->lock, NULL);
  file_eviction_errors_begin(&eviction->own_errors);
  eviction->errors = shared != NULL ? shared : &eviction->own_errors;
  eviction->errors_seen = atomic_load(&eviction->errors->count);
}

/* Call with the lock held. */
static void evict_all(struct file_eviction *eviction, int fd) {
  for (unsigned i = 0; i < EVICTION_WRITES; i++)
    if (eviction->writes[i].count > 0) {
      file_eviction_read(fd, eviction->writes[i].count, eviction->writes[i].offset);
      eviction->writes[i].count = 0;
    }
}

/* Evicts what has been written out. */
void file_eviction_end(struct file_eviction *eviction, int fd) {
  evict_all(eviction, fd);
  file_eviction_errors_end(&eviction->own_errors);
  pthread_mutex_destroy(&eviction->lock);
}

static void keep_error(struct file_eviction_errors *errors, int error) {
  atomic_store(&errors->newest, error);
  atomic_fetch_add(&errors->count, 1);
}

int file_eviction_flush(struct file_eviction *eviction, int fd) {
  struct file_eviction_errors *errors = eviction->errors;
  pthread_rwlock_rdlock(&errors->lock);
  if (fdatasync(fd) == -1)
    keep_error(errors, errno);
  pthread_rwlock_unlock(&errors->lock);
  /* Another thread may have got an error that this fdatasync did not get, and may not have stored
   * it yet. */
  pthread_rwlock_wrlock(&errors->lock);
  const unsigned count = atomic_load(&errors->count);
  pthread_rwlock_unlock(&errors->lock);
  pthread_mutex_lock(&eviction->lock);
  const int error = count != eviction->errors_seen ? atomic_load(&errors->newest) : 0;
  eviction->errors_seen = count;
  evict_all(eviction, fd);
  pthread_mutex_unlock(&eviction->lock);
  return error;
}

/* Fails at once for files that do not support it: the system writes them out later. */
static void write_out(struct file_eviction_errors *errors, int fd, uint32_t count, uint64_t offset,
                      unsigned flags) {
  pthread_rwlock_rdlock(&errors->lock);
  if (sync_file_range(fd, (off_t)offset, (off_t)count, flags) == -1 && errno != ESPIPE &&
      errno != EINVAL && errno != ENOSYS && errno != EINTR)
    keep_error(errors, errno);
  pthread_rwlock_unlock(&errors->lock);
}

void file_eviction_read(int fd, uint32_t count, uint64_t offset) {
  posix_fadvise(fd, (off_t)offset, (off_t)count, POSIX_FADV_DONTNEED);
}

void file_eviction_write(struct file_eviction *eviction, int fd, uint32_t count, uint64_t offset) {
  write_out(eviction->errors, fd, count, offset, SYNC_FILE_RANGE_WRITE);
  pthread_mutex_lock(&eviction->lock);
  const uint64_t old_offset = eviction->writes[eviction->oldest].offset;
  const uint32_t old_count = eviction->writes[eviction->oldest].count;
  eviction->writes[eviction->oldest].offset = offset;
  eviction->writes[eviction->oldest].count = count;
  eviction->oldest = (eviction->oldest + 1) % EVICTION_WRITES;
  pthread_mutex_unlock(&eviction->lock);
  if (old_count == 0)
    return;
  /* Without the lock, so that others need not wait for the disk. */
  write_out(eviction->errors, fd, old_count, old_offset,
            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  file_eviction_read(fd, old_count, old_offset);
}
