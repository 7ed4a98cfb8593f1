/* The engine of async-file for kernels that have io_uring: tasks in flight cost no threads. */

#define _GNU_SOURCE

#include "async-file.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>

/* More than these may be in flight: the kernel keeps results for which the ring has no room. */
#define RING_ENTRIES 1024
#define BATCH 64

struct uring {
  struct io_uring ring;
  pthread_mutex_t submitting;
  pthread_t reaper;
};

static void prepare(struct io_uring_sqe *sqe, struct task *task) {
  switch (task->operation) {
  case READ:
    io_uring_prep_read(sqe, task->fd, task->data, task->count, task->offset);
    break;
  case WRITE:
    io_uring_prep_write(sqe, task->fd, task->data, task->count, task->offset);
    sqe->rw_flags = task->durable ? RWF_DSYNC : 0;
    break;
  case SYNC:
    io_uring_prep_fsync(sqe, task->fd, IORING_FSYNC_DATASYNC);
    break;
  case PUNCH_HOLE:
    io_uring_prep_fallocate(sqe, task->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            (off_t)task->offset, task->count);
    break;
  case ZERO_RANGE:
    io_uring_prep_fallocate(sqe, task->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                            (off_t)task->offset, task->count);
    break;
  case PREFETCH:
    io_uring_prep_fadvise(sqe, task->fd, task->offset, (off_t)task->count, POSIX_FADV_WILLNEED);
    break;
  }
}

/* A task of NULL tells the reaper to end. */
static void submit(void *running, struct task *task) {
  struct uring *uring = running;
  pthread_mutex_lock(&uring->submitting);
  /* Each entry is submitted at once, so that there is always a free one. */
  struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
  if (task != NULL)
    prepare(sqe, task);
  else
    io_uring_prep_nop(sqe);
  io_uring_sqe_set_data(sqe, task);
  int submitted;
  do /* a kernel short of memory says so for a while */
    submitted = io_uring_submit(&uring->ring);
  while (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY);
  pthread_mutex_unlock(&uring->submitting);
}

static void *reap(void *running) {
  struct uring *uring = running;
  for (bool ending = false; !ending;) {
    struct io_uring_cqe *entries[BATCH];
    if (io_uring_wait_cqe(&uring->ring, &entries[0]) < 0)
      continue; /* interrupted */
    const unsigned count = io_uring_peek_batch_cqe(&uring->ring, entries, BATCH);
    struct task *tasks[BATCH];
    int results[BATCH];
    for (unsigned i = 0; i < count; i++) {
      tasks[i] = io_uring_cqe_get_data(entries[i]);
      results[i] = entries[i]->res;
    }
    io_uring_cq_advance(&uring->ring, count);
    nbdkit_async_batch_begin();
    for (unsigned i = 0; i < count; i++) {
      if (tasks[i] != NULL)
        task_done(tasks[i], results[i]);
      else
        ending = true;
    }
    nbdkit_async_batch_end();
  }
  return NULL;
}

/* Old kernels lack operations, and many containers all of them. */
static bool is_capable(struct uring *uring) {
  struct io_uring_probe *probe = io_uring_get_probe_ring(&uring->ring);
  if (probe == NULL)
    return false;
  const bool capable = io_uring_opcode_supported(probe, IORING_OP_READ) &&
                       io_uring_opcode_supported(probe, IORING_OP_FALLOCATE) &&
                       io_uring_opcode_supported(probe, IORING_OP_FADVISE) &&
                       (uring->ring.features & IORING_FEAT_NODROP) != 0;
  io_uring_free_probe(probe);
  return capable;
}

static void discard(struct uring *uring) {
  pthread_mutex_destroy(&uring->submitting);
  free(uring);
}

static int start(unsigned threads, void **running) {
  (void)threads;
  struct uring *uring = calloc(1, sizeof *uring);
  if (uring == NULL)
    return ENOMEM;
  pthread_mutex_init(&uring->submitting, NULL);
  const int result = io_uring_queue_init(RING_ENTRIES, &uring->ring, 0);
  if (result < 0) {
    discard(uring);
    return -result;
  }
  int error = is_capable(uring) ? 0 : ENOSYS;
  if (error == 0)
    error = pthread_create(&uring->reaper, NULL, reap, uring);
  if (error == 0) {
    *running = uring;
    return 0;
  }
  io_uring_queue_exit(&uring->ring);
  discard(uring);
  return error;
}

static void stop(void *running) {
  struct uring *uring = running;
  submit(uring, NULL);
  pthread_join(uring->reaper, NULL);
  io_uring_queue_exit(&uring->ring);
  discard(uring);
}

const struct engine uring_engine = {"io_uring", start, submit, stop};
