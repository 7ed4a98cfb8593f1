/* Keeps what is read and written from staying in the page cache: cache=none. */
#ifndef FILE_EVICTION_H
#define FILE_EVICTION_H

#include <pthread.h>
#include <stdint.h>

#define EVICTION_WRITES 8

/* Of one handle: writes that the kernel has begun to write out, the oldest first. */
struct file_eviction {
  pthread_mutex_t lock; /* guards the rest */
  struct {
    uint64_t offset;
    uint32_t count; /* 0: none */
  } writes[EVICTION_WRITES];
  unsigned oldest;
  int error; /* of the system, in writing out: 0 or an errno */
};

void file_eviction_begin(struct file_eviction *eviction);
/* When the handle is closed. */
void file_eviction_end(struct file_eviction *eviction, int fd);

/* After so much has been read or written. Any thread. */
void file_eviction_read(int fd, uint32_t count, uint64_t offset);
void file_eviction_write(struct file_eviction *eviction, int fd, uint32_t count, uint64_t offset);
/* After a flush: what has been written need not be waited for any more. 0, or the errno with which
 * writing out has failed before: the system tells that once, and has told us. */
int file_eviction_flush(struct file_eviction *eviction, int fd);

#endif
