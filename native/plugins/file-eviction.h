/* Keeps what is read and written from staying in the page cache: cache=none. */
#ifndef FILE_EVICTION_H
#define FILE_EVICTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define EVICTION_WRITES 8

/* Of one opened file, which all handles by a descriptor of the user's share: failures in writing
 * out, of which the system tells an opened file once. */
struct file_eviction_errors {
  pthread_rwlock_t lock; /* for reading while it is found out; for writing to look at the rest */
  atomic_uint count;
  atomic_int newest; /* an errno, once there has been one */
};

/* Of one handle: writes that the kernel has begun to write out, the oldest first. */
struct file_eviction {
  struct file_eviction_errors *errors;
  struct file_eviction_errors own_errors; /* of a handle that has opened its file itself */
  pthread_mutex_t lock;                   /* guards the rest */
  struct {
    uint64_t offset;
    uint32_t count; /* 0: none */
  } writes[EVICTION_WRITES];
  unsigned oldest;
  unsigned errors_seen; /* by this handle's flushes, and from before it was opened */
};

void file_eviction_errors_begin(struct file_eviction_errors *errors);
void file_eviction_errors_end(struct file_eviction_errors *errors);

/* `shared`: NULL if the handle has opened its file itself. */
void file_eviction_begin(struct file_eviction *eviction, struct file_eviction_errors *shared);
/* When the handle is closed. */
void file_eviction_end(struct file_eviction *eviction, int fd);

/* After so much has been read or written. Any thread. */
void file_eviction_read(int fd, uint32_t count, uint64_t offset);
void file_eviction_write(struct file_eviction *eviction, int fd, uint32_t count, uint64_t offset);
/* fdatasync. 0, or its errno, or that with which writing out has failed before: each handle is told
 * once, whoever was told by the system. */
int file_eviction_flush(struct file_eviction *eviction, int fd);

#endif
