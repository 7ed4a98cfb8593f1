/* A file as a disk, by asynchronous input and output: io_uring where the kernel allows it, else
 * threads. A model for plugins whose requests are carried out by something else.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

#include "async-file.h"

#define DEFAULT_THREADS 16
#define MAX_THREADS 1024
/* What O_DIRECT wants of addresses, offsets and lengths, on all usual disks. */
#define DIRECT_ALIGNMENT 4096
/* As large as a page of any system, and so as any sector. */
#define MAX_SECTOR_BYTES 65536

enum choice { AUTO, URING, THREADS };

struct disk {
  char *path;
  enum choice wanted_engine;
  unsigned threads;
  bool direct;
  const struct engine *engine; /* NULL: none runs */
  void *running;
};

static struct disk only_disk; /* under a server without instances */

static struct disk *this_disk(void) {
  return asyncnbd_instance != NULL ? asyncnbd_instance() : &only_disk;
}

struct handle {
  const struct disk *disk;
  int fd;
  int direct_fd; /* the same file without the page cache, or -1 */
  bool writable;
  uint32_t sector_bytes; /* of a block device: the least that it can trim or zero; or 1 */
};

/* ---- parameters --------------------------------------------------------------------------- */

static void file_load(void) {
  this_disk()->threads = DEFAULT_THREADS;
}

static int parse_engine(const char *value) {
  struct disk *disk = this_disk();
  if (strcmp(value, "auto") == 0)
    disk->wanted_engine = AUTO;
  else if (strcmp(value, "io_uring") == 0)
    disk->wanted_engine = URING;
  else if (strcmp(value, "threads") == 0)
    disk->wanted_engine = THREADS;
  else {
    nbdkit_error("engine=%s: use auto, io_uring or threads", value);
    return -1;
  }
  return 0;
}

static int parse_threads(const char *value) {
  struct disk *disk = this_disk();
  if (nbdkit_parse_unsigned("threads", value, &disk->threads) == -1)
    return -1;
  if (disk->threads >= 1 && disk->threads <= MAX_THREADS)
    return 0;
  nbdkit_error("threads=%s: use a number from 1 to %d", value, MAX_THREADS);
  return -1;
}

static int file_config(const char *key, const char *value) {
  struct disk *disk = this_disk();
  if (strcmp(key, "file") == 0) {
    free(disk->path);
    disk->path = nbdkit_realpath(value); /* the server changes directory in the background */
    return disk->path == NULL ? -1 : 0;
  }
  if (strcmp(key, "engine") == 0)
    return parse_engine(value);
  if (strcmp(key, "threads") == 0)
    return parse_threads(value);
  if (strcmp(key, "direct") == 0) {
    const int answer = nbdkit_parse_bool(value);
    disk->direct = answer == 1;
    return answer == -1 ? -1 : 0;
  }
  nbdkit_error("unknown parameter \"%s\"", key);
  return -1;
}

static int file_config_complete(void) {
  struct disk *disk = this_disk();
  if (disk->path != NULL)
    return 0;
  nbdkit_error("the file to serve is missing: add file=<FILE>");
  return -1;
}

static int start(struct disk *disk, const struct engine *candidate) {
  const int error = candidate->start(disk->threads, &disk->running);
  if (error != 0) {
    errno = error;
    return -1;
  }
  disk->engine = candidate;
  nbdkit_debug("async-file uses %s", disk->engine->name);
  return 0;
}

static int file_after_fork(void) {
  struct disk *disk = this_disk();
#ifdef HAVE_LIBURING
  if (disk->wanted_engine != THREADS && start(disk, &uring_engine) == 0)
    return 0;
#else
  errno = ENOSYS;
#endif
  if (disk->wanted_engine == URING) {
    nbdkit_error("engine=io_uring cannot be had here: %m");
    return -1;
  }
  if (start(disk, &thread_engine) == 0)
    return 0;
  nbdkit_error("cannot start %u threads: %m", disk->threads);
  return -1;
}

static void file_cleanup(void) {
  struct disk *disk = this_disk();
  if (disk->engine != NULL)
    disk->engine->stop(disk->running);
}

static void file_unload(void) {
  struct disk *disk = this_disk();
  free(disk->path);
}

static void file_dump_plugin(void) {
#ifdef HAVE_LIBURING
  printf("async_file_io_uring=1\n");
#else
  printf("async_file_io_uring=0\n");
#endif
}

/* ---- open, and what the disk is ------------------------------------------------------------ */

static int examine(struct handle *handle) {
  const struct disk *disk = handle->disk;
  struct stat status;
  if (fstat(handle->fd, &status) == -1) {
    nbdkit_error("cannot examine %s: %m", disk->path);
    return -1;
  }
  handle->sector_bytes = 1;
  if (!S_ISBLK(status.st_mode))
    return 0;
  int is_readonly = 0;
  if (ioctl(handle->fd, BLKROGET, &is_readonly) == 0 && is_readonly)
    handle->writable = false;
  int sector_bytes = 0;
  if (ioctl(handle->fd, BLKSSZGET, &sector_bytes) == -1) {
    nbdkit_error("cannot get the sector size of %s: %m", disk->path);
    return -1;
  }
  if (sector_bytes < 1 || sector_bytes > MAX_SECTOR_BYTES) {
    nbdkit_error("%s: sectors of %d bytes are not supported", disk->path, sector_bytes);
    return -1;
  }
  handle->sector_bytes = (uint32_t)sector_bytes;
  return 0;
}

static void file_close(void *opaque) {
  struct handle *handle = opaque;
  if (handle->fd != -1)
    close(handle->fd);
  if (handle->direct_fd != -1)
    close(handle->direct_fd);
  free(handle);
}

static void *file_open(int readonly) {
  struct disk *disk = this_disk();
  struct handle *handle = calloc(1, sizeof *handle);
  if (handle == NULL) {
    nbdkit_error("%s: %m", disk->path);
    return NULL;
  }
  handle->disk = disk;
  handle->direct_fd = -1;
  handle->writable = !readonly;
  handle->fd = open(disk->path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (handle->fd == -1 && !readonly && (errno == EACCES || errno == EROFS || errno == EPERM)) {
    handle->writable = false;
    handle->fd = open(disk->path, O_RDONLY | O_CLOEXEC);
  }
  if (handle->fd == -1) {
    nbdkit_error("cannot open %s: %m", disk->path);
    goto failed;
  }
  if (examine(handle) == -1)
    goto failed;
  if (!disk->direct)
    return handle;
  handle->direct_fd =
      open(disk->path, (handle->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_DIRECT);
  if (handle->direct_fd != -1)
    return handle;
  nbdkit_error("cannot open %s for direct=true: %m", disk->path);

failed:
  file_close(handle);
  return NULL;
}

static int64_t file_get_size(void *opaque) {
  const struct handle *handle = opaque;
  const struct disk *disk = handle->disk;
  const off_t size = lseek(handle->fd, 0, SEEK_END); /* of devices too */
  if (size == -1)
    nbdkit_error("cannot tell the size of %s: %m", disk->path);
  return size;
}

static int file_can_write(void *opaque) {
  return ((struct handle *)opaque)->writable;
}

/* All descriptors are of one file: a flush of one covers what was written by any. */
static int file_can_multi_conn(void *opaque) {
  (void)opaque;
  return 1;
}

static int file_can_fua(void *opaque) {
  (void)opaque;
  return NBDKIT_FUA_NATIVE;
}

static uint32_t direct_alignment(const struct handle *handle) {
  return handle->sector_bytes > DIRECT_ALIGNMENT ? handle->sector_bytes : DIRECT_ALIGNMENT;
}

static int file_block_size(void *opaque, uint32_t *minimum, uint32_t *preferred,
                           uint32_t *maximum) {
  const struct disk *disk = ((const struct handle *)opaque)->disk;
  *minimum = disk->direct ? 1 : 0; /* less than preferred is slower, not wrong */
  *preferred = disk->direct ? direct_alignment(opaque) : 0;
  *maximum = disk->direct ? UINT32_MAX : 0;
  return 0;
}

/* ---- requests ----------------------------------------------------------------------------- */

static struct task *new_task(enum operation operation, void *conn, uint64_t reqid,
                             const struct handle *handle, uint32_t count, uint64_t offset) {
  struct task *task = calloc(1, sizeof *task);
  if (task == NULL) {
    nbdkit_error("no memory for another request in flight");
    nbdkit_set_error(ENOMEM);
    return NULL;
  }
  task->disk = handle->disk;
  task->operation = operation;
  task->conn = conn;
  task->reqid = reqid;
  task->fd = task->cached_fd = handle->fd;
  task->count = task->total = count;
  task->offset = offset;
  return task;
}

static void submit(struct task *task) {
  task->disk->engine->submit(task->disk->running, task);
}

/* Past the page cache, if the request allows it: what is not aligned goes through the cache, which
 * the kernel keeps in step. */
static bool make_direct(struct task *task, const struct handle *handle) {
  const uint32_t alignment = direct_alignment(handle);
  if (handle->direct_fd == -1 || (task->offset | task->count) % alignment != 0)
    return true;
  task->bounce = aligned_alloc(alignment, task->count);
  if (task->bounce == NULL)
    return false;
  task->fd = handle->direct_fd;
  task->data = task->bounce;
  return true;
}

static void end(struct task *task, int error) {
  if (error != 0)
    nbdkit_async_reply_errno(task->conn, task->reqid, error);
  else if (task->reads) /* from the bounce buffer too, which the server sends or copies at once */
    nbdkit_async_reply_read(task->conn, task->reqid, task->total,
                            task->bounce != NULL ? task->bounce : task->buf);
  else
    nbdkit_async_reply(task->conn, task->reqid);
  free(task->bounce);
  free(task);
}

/* Of a task that moves data, which the system has done in part. */
static void go_on(struct task *task, uint32_t done) {
  task->data += done;
  task->offset += done;
  task->count -= done;
  task->fd = task->cached_fd; /* what is left may not be aligned */
  submit(task);
}

/* What comes after a system call that has done its work. */
static void do_next(struct task *task) {
  static uint8_t zeroes[2 * MAX_SECTOR_BYTES]; /* all there is may be parts of two sectors */
  if (task->edge_count > 0) {
    const struct edge edge = task->edges[--task->edge_count];
    task->operation = WRITE;
    task->data = zeroes; /* which stay so: a WRITE only reads them */
    task->offset = edge.offset;
    task->count = edge.count;
  } else if (task->then_sync) {
    task->then_sync = false;
    task->operation = SYNC;
  } else {
    end(task, 0);
    return;
  }
  submit(task);
}

void task_done(struct task *task, int64_t result) {
  const struct disk *disk = task->disk;
  const bool moves_data = task->operation == READ || task->operation == WRITE;
  if (result == -EINTR || result == -EAGAIN) {
    submit(task);
  } else if (result == -EOPNOTSUPP && task->is_advice) {
    do_next(task);
  } else if (result == -EOPNOTSUPP && task->operation == PUNCH_HOLE && !task->is_fast) {
    task->operation = ZERO_RANGE;
    submit(task);
  } else if (result < 0) {
    end(task, (int)-result);
  } else if (moves_data && result == 0) { /* the file has become shorter than it was */
    nbdkit_error("%s offset=%" PRIu64 ": unexpected end of %s, was it truncated?",
                 task->operation == READ ? "read" : "write", task->offset, disk->path);
    end(task, EIO);
  } else if (moves_data && result < task->count) {
    go_on(task, (uint32_t)result);
  } else {
    do_next(task);
  }
}

static int file_pread(void *conn, uint64_t reqid, bool flush, void *handle, void *buf,
                      uint32_t count, uint64_t offset) {
  (void)flush;
  struct task *task = new_task(READ, conn, reqid, handle, count, offset);
  if (task == NULL)
    return -1;
  task->reads = true;
  task->buf = task->data = buf;
  if (!make_direct(task, handle)) {
    free(task);
    nbdkit_set_error(ENOMEM);
    return -1;
  }
  submit(task);
  return 0;
}

static int file_pwrite(void *conn, uint64_t reqid, bool flush, void *handle, const void *buf,
                       uint32_t count, uint64_t offset) {
  struct task *task = new_task(WRITE, conn, reqid, handle, count, offset);
  if (task == NULL)
    return -1;
  task->durable = flush;
  task->data = (uint8_t *)buf; /* which stays until the reply */
  if (!make_direct(task, handle)) {
    free(task);
    nbdkit_set_error(ENOMEM);
    return -1;
  }
  if (task->bounce != NULL)
    memcpy(task->bounce, buf, count);
  submit(task);
  return 0;
}

static int submit_simple(enum operation operation, bool is_advice, void *conn, uint64_t reqid,
                         const struct handle *handle, uint32_t count, uint64_t offset) {
  struct task *task = new_task(operation, conn, reqid, handle, count, offset);
  if (task == NULL)
    return -1;
  task->is_advice = is_advice;
  submit(task);
  return 0;
}

static int file_flush(void *conn, uint64_t reqid, void *handle) {
  return submit_simple(SYNC, false, conn, reqid, handle, 0, 0);
}

/* What of a task's range a block device can trim or zero by itself is its whole sectors. The rest
 * becomes edges. */
static void shrink_to_sectors(struct task *task, const struct handle *handle) {
  const uint64_t sector = handle->sector_bytes;
  const uint64_t start = task->offset;
  const uint64_t end = start + task->count;
  const uint64_t first = (start + sector - 1) / sector * sector;
  const uint64_t last = end / sector * sector;
  if (first >= last) {
    task->edges[task->edge_count++] = (struct edge){start, task->count};
    task->count = 0;
    return;
  }
  if (start < first)
    task->edges[task->edge_count++] = (struct edge){start, (uint32_t)(first - start)};
  if (last < end)
    task->edges[task->edge_count++] = (struct edge){last, (uint32_t)(end - last)};
  task->offset = first;
  task->count = (uint32_t)(last - first);
}

static int submit_range(struct task *task, const struct handle *handle) {
  shrink_to_sectors(task, handle);
  if (task->is_advice)
    task->edge_count = 0; /* they keep their data */
  if (task->count > 0)
    submit(task);
  else
    do_next(task);
  return 0;
}

static int file_trim(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                     uint64_t offset) {
  struct task *task = new_task(PUNCH_HOLE, conn, reqid, handle, count, offset);
  if (task == NULL)
    return -1;
  task->is_advice = true;
  task->then_sync = flush;
  return submit_range(task, handle);
}

/* A file system that cannot answers EOPNOTSUPP, and then the server writes zeroes. */
static int file_zero(void *conn, uint64_t reqid, bool flush, void *opaque, uint32_t count,
                     uint64_t offset, uint32_t flags) {
  const struct handle *handle = opaque;
  const bool may_trim = (flags & NBDKIT_FLAG_MAY_TRIM) != 0;
  const bool is_fast = (flags & NBDKIT_FLAG_FAST_ZERO) != 0;
  if (is_fast && !may_trim && handle->sector_bytes > 1) {
    nbdkit_set_error(EOPNOTSUPP); /* the kernel would write zeroes where the device cannot */
    return -1;
  }
  struct task *task =
      new_task(may_trim ? PUNCH_HOLE : ZERO_RANGE, conn, reqid, handle, count, offset);
  if (task == NULL)
    return -1;
  task->is_fast = is_fast;
  task->then_sync = flush;
  return submit_range(task, handle);
}

/* The ways of zeroing that are taken then are fast or fail at once. */
static int file_can_fast_zero(void *handle) {
  (void)handle;
  return 1;
}

static int file_cache(void *conn, uint64_t reqid, void *handle, uint32_t count, uint64_t offset) {
  return submit_simple(PREFETCH, true, conn, reqid, handle, count, offset);
}

static struct nbdkit_plugin plugin = {
    .name = "async-file",
    .version = "1.0.0",
    .longname = "asyncnbd asynchronous file plugin",
    .description = "A file as a disk, with any number of requests in flight.",
    .load = file_load,
    .unload = file_unload,
    .config = file_config,
    .config_complete = file_config_complete,
    .config_help =
        "file=<FILE>             The file to serve (required).\n"
        "engine=<ENGINE>         auto (the default), io_uring or threads.\n"
        "threads=<N>             Threads for that engine, 16 by default.\n"
        "direct=true             Past the page cache (O_DIRECT), for requests of whole 4 KiB.",
    .open = file_open,
    .close = file_close,
    .get_size = file_get_size,
    .can_write = file_can_write,
    .dump_plugin = file_dump_plugin,
    .can_fua = file_can_fua,
    .magic_config_key = "file",
    .can_multi_conn = file_can_multi_conn,
    .can_fast_zero = file_can_fast_zero,
    .after_fork = file_after_fork,
    .cleanup = file_cleanup,
    .block_size = file_block_size,
    .async_pread = file_pread,
    .async_pwrite = file_pwrite,
    .async_flush = file_flush,
    .async_trim = file_trim,
    .async_zero = file_zero,
    .async_cache = file_cache,
    .instance_bytes = sizeof(struct disk),
};

NBDKIT_REGISTER_PLUGIN(plugin)
