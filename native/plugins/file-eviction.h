/* Evicts data from the page cache after it is read or written: cache=none. */
#ifndef FILE_EVICTION_H
#define FILE_EVICTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define EVICTION_WRITES 8

/* For one opened file (all handles share one if the user gave a descriptor): errors while writing
 * out, which the system reports once for each opened file. */
struct file_eviction_errors {
  /* Held for reading while an error may be found, for writing to look at the rest. */
  pthread_rwlock_t lock;
  atomic_uint count;
  atomic_int newest; /* the last errno, or 0 */
};

/* For one handle: writes that the kernel has begun to write out, the oldest first. */
struct file_eviction {
  struct file_eviction_errors *errors;
  struct file_eviction_errors own_errors; /* for a handle that has opened its file itself */
  pthread_mutex_t lock;                   /* guards the rest */
  struct {
    uint64_t offset;
    uint32_t count; /* 0: none */
  } writes[EVICTION_WRITES];
  unsigned oldest;
  unsigned errors_seen; /* the count at this handle's last flush, or when it was opened */
};

void file_eviction_errors_begin(struct file_eviction_errors *errors);
void file_eviction_errors_end(struct file_eviction_errors *errors);

/* `shared`: NULL if the handle has opened its file itself. */
void file_eviction_begin(struct file_eviction *eviction, struct file_eviction_errors *shared);
/* Call it when the handle is closed. */
void file_eviction_end(struct file_eviction *eviction, int fd);

/* Call these after reading or writing this range. Any thread. */
void file_eviction_read(int fd, uint32_t count, uint64_t offset);
void file_eviction_write(struct file_eviction *eviction, int fd, uint32_t count, uint64_t offset);
/* fdatasync. Returns 0, its errno, or the errno of an earlier failed write-out: each handle gets
 * that once, no matter which call got it from the system. */
int file_eviction_flush(struct file_eviction *eviction, int fd);

#endif
