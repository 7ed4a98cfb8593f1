/* Requests to the async-file plugin: each becomes a task for an engine, followed by more tasks if
 * it needs them, and then the reply.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "async-file.h"

/* The alignment of addresses, offsets and lengths that O_DIRECT needs, on all usual disks. */
#define DIRECT_ALIGNMENT 4096

uint32_t async_file_direct_alignment(const struct handle *handle) {
  return handle->sector_bytes > DIRECT_ALIGNMENT ? handle->sector_bytes : DIRECT_ALIGNMENT;
}

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

/* Bypasses the page cache, if the request is aligned. Others go through the cache, which the
 * kernel keeps consistent. */
static bool make_direct(struct task *task, const struct handle *handle) {
  const uint32_t alignment = async_file_direct_alignment(handle);
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
  else if (task->reads) /* from the bounce buffer too: the server sends or copies it at once */
    nbdkit_async_reply_read(task->conn, task->reqid, task->total,
                            task->bounce != NULL ? task->bounce : task->buf);
  else
    nbdkit_async_reply(task->conn, task->reqid);
  free(task->bounce);
  free(task);
}

/* Continues a READ or WRITE of which the system has done a part. */
static void go_on(struct task *task, uint32_t done) {
  task->data += done;
  task->offset += done;
  task->count -= done;
  task->fd = task->cached_fd; /* the rest may not be aligned */
  submit(task);
}

/* The next step after a successful system call. */
static void do_next(struct task *task) {
  static uint8_t zeroes[2 * MAX_SECTOR_BYTES]; /* enough for parts of two sectors */
  if (task->edge_count > 0) {
    const struct edge edge = task->edges[--task->edge_count];
    task->operation = WRITE;
    task->data = zeroes; /* never changed: a WRITE only reads them */
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
  } else if (moves_data && result == 0) { /* the file has become shorter */
    nbdkit_error("%s offset=%" PRIu64 ": unexpected end of %s, was it truncated?",
                 task->operation == READ ? "read" : "write", task->offset, disk->path);
    end(task, EIO);
  } else if (moves_data && result < task->count) {
    go_on(task, (uint32_t)result);
  } else {
    do_next(task);
  }
}

int async_file_pread(void *conn, uint64_t reqid, bool flush, void *handle, void *buf,
                     uint32_t count, uint64_t offset) {
  (void)flush;
  const uint32_t done = read_at_once(handle, buf, count, offset);
  if (done == count) {
    nbdkit_async_reply_read(conn, reqid, count, buf);
    return 0;
  }
  struct task *task = new_task(READ, conn, reqid, handle, count, offset);
  if (task == NULL)
    return -1;
  task->reads = true;
  task->buf = task->data = buf;
  if (done > 0) {
    go_on(task, done);
    return 0;
  }
  if (!make_direct(task, handle)) {
    free(task);
    nbdkit_set_error(ENOMEM);
    return -1;
  }
  submit(task);
  return 0;
}

int async_file_pwrite(void *conn, uint64_t reqid, bool flush, void *handle, const void *buf,
                      uint32_t count, uint64_t offset) {
  const uint32_t done = flush ? 0 : write_at_once(handle, buf, count, offset);
  if (done == count) {
    nbdkit_async_reply(conn, reqid);
    return 0;
  }
  struct task *task = new_task(WRITE, conn, reqid, handle, count, offset);
  if (task == NULL)
    return -1;
  task->durable = flush;
  task->data = (uint8_t *)buf; /* valid until the reply */
  if (done > 0) {
    go_on(task, done);
    return 0;
  }
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

int async_file_flush(void *conn, uint64_t reqid, void *handle) {
  return submit_simple(SYNC, false, conn, reqid, handle, 0, 0);
}

/* A block device can only trim or zero whole sectors of the task's range by itself. The rest
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
    task->edge_count = 0; /* a trim leaves them alone */
  if (task->count > 0)
    submit(task);
  else
    do_next(task);
  return 0;
}

int async_file_trim(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                    uint64_t offset) {
  struct task *task = new_task(PUNCH_HOLE, conn, reqid, handle, count, offset);
  if (task == NULL)
    return -1;
  task->is_advice = true;
  task->then_sync = flush;
  return submit_range(task, handle);
}

/* If a file system cannot zero, it answers EOPNOTSUPP, and the server writes zeroes. */
int async_file_zero(void *conn, uint64_t reqid, bool flush, void *opaque, uint32_t count,
                    uint64_t offset, uint32_t flags) {
  const struct handle *handle = opaque;
  const bool may_trim = (flags & NBDKIT_FLAG_MAY_TRIM) != 0;
  const bool is_fast = (flags & NBDKIT_FLAG_FAST_ZERO) != 0;
  if (is_fast && !may_trim && handle->sector_bytes > 1) {
    nbdkit_set_error(EOPNOTSUPP); /* otherwise the kernel writes zeroes if the device cannot */
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

int async_file_cache(void *conn, uint64_t reqid, void *handle, uint32_t count, uint64_t offset) {
  return submit_simple(PREFETCH, true, conn, reqid, handle, count, offset);
}
