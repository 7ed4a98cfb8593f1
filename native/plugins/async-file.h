/* The shared declarations of the async-file plugin: the disk, the requests in flight, and the
 * engines that carry them out. */

#ifndef ASYNC_FILE_H
#define ASYNC_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

/* At least a page on any system, and so at least any sector. */
#define MAX_SECTOR_BYTES 65536

enum choice { AUTO, URING, THREADS };

struct disk {
  char *path;
  enum choice wanted_engine;
  unsigned threads;
  bool direct;
  bool is_inline;              /* the calling thread does what can be done at once */
  const struct engine *engine; /* NULL: none runs */
  void *running;
};

/* When a request is done on the calling thread: never, as far as the system need not wait, if the
 * last ones were quick, or always. */
enum at_once { NEVER_AT_ONCE, IF_CACHED, IF_QUICK, AT_ONCE };

struct handle {
  const struct disk *disk;
  int fd;
  int direct_fd; /* the same file without the page cache, or -1 */
  bool writable;
  uint32_t sector_bytes; /* the least that a block device can trim or zero; 1 for files */
  /* Atomic, and pair with nothing. */
  enum at_once reads;
  enum at_once writes;
  unsigned writes_after_slow; /* IF_QUICK: how many still go to the engine after a slow one */
};

enum operation { READ, WRITE, SYNC, PUNCH_HOLE, ZERO_RANGE, PREFETCH };

/* A part of a zeroed range that must be written. */
struct edge {
  uint64_t offset;
  uint32_t count;
};

/* One system call for a request, and what follows it. */
struct task {
  struct task *next; /* for the engine, while it has the task */
  const struct disk *disk;
  enum operation operation;
  int fd;
  int cached_fd;   /* the same file through the page cache, if fd bypasses it */
  uint8_t *data;   /* READ fills it, WRITE stores it */
  uint32_t count;  /* bytes that are still to do */
  uint64_t offset; /* in the file */
  bool durable;    /* a WRITE must be on stable storage when it is done */

  bool is_advice;       /* not supported counts as success */
  bool is_fast;         /* must fail rather than take long */
  struct edge edges[2]; /* then WRITE zeroes here */
  unsigned edge_count;
  bool then_sync; /* SYNC must follow */
  bool reads;     /* the request is a read, of `total` bytes into `buf` */
  void *buf;
  uint32_t total;
  uint8_t *bounce; /* aligned memory in place of buf, or NULL */
  void *conn;
  uint64_t reqid;
};

/* The engine calls this once for each task, on a thread of its own. `result` is the system call's,
 * or a negative errno. */
void task_done(struct task *task, int64_t result);

/* `start` makes a running engine, or returns an errno. Many threads may call `submit`, which must
 * not wait for the task. `stop` is called after the last task is done. */
struct engine {
  const char *name;
  int (*start)(unsigned threads, void **running);
  void (*submit)(void *running, struct task *task);
  void (*stop)(void *running);
};

/* async-file-at-once.c: the first is called once the file is open. The next two return how many
 * bytes they have moved without the engine, which may be none. */
void decide_what_is_done_at_once(struct handle *handle);
uint32_t read_at_once(struct handle *handle, void *buf, uint32_t count, uint64_t offset);
uint32_t write_at_once(struct handle *handle, const void *buf, uint32_t count, uint64_t offset);
int async_file_read_fd(void *handle);
int async_file_write_fd(void *handle);

/* async-file-requests.c */
uint32_t async_file_direct_alignment(const struct handle *handle);
int async_file_pread(void *conn, uint64_t reqid, bool flush, void *handle, void *buf,
                     uint32_t count, uint64_t offset);
int async_file_pwrite(void *conn, uint64_t reqid, bool flush, void *handle, const void *buf,
                      uint32_t count, uint64_t offset);
int async_file_flush(void *conn, uint64_t reqid, void *handle);
int async_file_trim(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                    uint64_t offset);
int async_file_zero(void *conn, uint64_t reqid, bool flush, void *opaque, uint32_t count,
                    uint64_t offset, uint32_t flags);
int async_file_cache(void *conn, uint64_t reqid, void *handle, uint32_t count, uint64_t offset);

extern const struct engine thread_engine;
#ifdef HAVE_LIBURING
extern const struct engine uring_engine;
#endif

#endif /* ASYNC_FILE_H */
