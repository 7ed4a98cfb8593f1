/* The engine of async-file for kernels that have io_uring: tasks in flight cost no threads. */

#define _GNU_SOURCE

#include "async-file-queue.h"
#include "async-file.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>

/* More tasks may be in flight: the kernel keeps results for which the ring has no room. */
#define RING_ENTRIES 1024
#define BATCH 64
/* A batch ends with the task that makes it this large, because later tasks wait for all of it. */
#define BATCH_BYTES (1 << 20)
/* Limits the bytes in the kernel: later tasks also wait until the reaper has passed on what
 * earlier ones have read. This is more than a fast disk needs to stay busy. */
#define MAX_LARGE_BYTES (16 << 20)
/* Limits what a thread submits in one turn for others, as its own client waits meanwhile. */
#define MAX_TURN_BYTES (4 << 20)

/* The pause between attempts to submit what the kernel has refused for now. */
#define RETRY_NS 100000

/* The kernel may carry out a task during the submit, and copy all its data. Other threads need not
 * wait for that: tasks wait in a queue, and one thread at a time submits them all. */
struct uring {
  struct io_uring ring;
  pthread_mutex_t lock; /* guards what follows; held only briefly */
  struct task_queue queue;
  bool is_submitting; /* a thread has the right to add to the ring; it alone touches that side */
  pthread_t reaper;
};

static void retry_later(void) {
  const struct timespec pause = {0, RETRY_NS};
  nanosleep(&pause, NULL);
}

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

/* Takes a batch of tasks and returns their number. After 0, the caller must not submit any more.
 * `*turn_bytes` limits the large tasks of its turn. Tasks are left in the queue only if the reaper
 * will see the end of another one, so that they are not forgotten. */
static unsigned take_queued(struct uring *uring, struct task **tasks, uint64_t *turn_bytes) {
  unsigned count = 0;
  uint64_t bytes = 0;
  pthread_mutex_lock(&uring->lock);
  while (count < BATCH && bytes < BATCH_BYTES) {
    struct task *task = take_task(&uring->queue, *turn_bytes > 0 || uring->queue.large_bytes == 0);
    if (task == NULL)
      break;
    tasks[count++] = task;
    bytes += task->count;
    if (is_large_task(task))
      *turn_bytes -= task->count < *turn_bytes ? task->count : *turn_bytes;
  }
  if (count == 0)
    uring->is_submitting = false;
  pthread_mutex_unlock(&uring->lock);
  return count;
}

/* Submits what is in the ring. False if the kernel takes no more now: it is short of memory, or
 * waits for results to be reaped. */
static bool submit_ring(struct uring *uring, bool may_wait) {
  while (io_uring_sq_ready(&uring->ring) > 0) {
    const int submitted = io_uring_submit(&uring->ring);
    if (submitted >= 0 || submitted == -EINTR)
      continue;
    if (!may_wait)
      return false;
    retry_later();
  }
  return true;
}

/* Called by the submitting thread: submits until no more task may begin. Large tasks that are left
 * when its turn is over begin when one that it has submitted ends. False if the kernel takes no
 * more now. */
static bool submit_queued(struct uring *uring, bool may_wait) {
  struct task *tasks[BATCH];
  uint64_t turn_bytes = MAX_TURN_BYTES;
  while (submit_ring(uring, may_wait)) {
    const unsigned count = take_queued(uring, tasks, &turn_bytes);
    if (count == 0)
      return true;
    for (unsigned i = 0; i < count; i++) { /* the ring is empty, and has room for a batch */
      struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
      prepare(sqe, tasks[i]);
      io_uring_sqe_set_data(sqe, tasks[i]);
    }
  }
  pthread_mutex_lock(&uring->lock);
  uring->is_submitting = false;
  pthread_mutex_unlock(&uring->lock);
  return false;
}

/* Also called by the reaper, which must not wait, because the kernel may be waiting for it. It
 * submits after reaping. */
static void submit(void *running, struct task *task) {
  struct uring *uring = running;
  pthread_mutex_lock(&uring->lock);
  queue_task(&uring->queue, task);
  const bool submits = !uring->is_submitting && !pthread_equal(pthread_self(), uring->reaper);
  if (submits)
    uring->is_submitting = true;
  pthread_mutex_unlock(&uring->lock);
  if (submits)
    submit_queued(uring, true);
}

/* Called by the reaper: submits what it has queued, or could not submit before. False if the
 * kernel still takes no more. */
static bool submit_left(struct uring *uring, bool is_left) {
  pthread_mutex_lock(&uring->lock);
  const bool submits = !uring->is_submitting && (is_left || has_task_to_begin(&uring->queue));
  if (submits)
    uring->is_submitting = true;
  pthread_mutex_unlock(&uring->lock);
  return !submits || submit_queued(uring, false);
}

/* Tasks that the kernel has finished. */
struct done {
  struct task *tasks[BATCH];
  int results[BATCH];
  unsigned count;
};

static void add_done(struct done *done, struct task *task, int result) {
  done->tasks[done->count] = task;
  done->results[done->count++] = result;
}

static void finish_tasks(const struct done *done) {
  nbdkit_async_batch_begin();
  for (unsigned i = 0; i < done->count; i++)
    task_done(done->tasks[i], done->results[i]);
  nbdkit_async_batch_end();
}

/* Finishes the results that are there, if any. Small tasks come first, so that their data is sent
 * before the rest. True if the engine must stop. */
static bool finish_reaped(struct uring *uring, bool *is_any) {
  struct io_uring_cqe *entries[BATCH];
  struct done small = {.count = 0};
  struct done large = {.count = 0};
  bool is_end = false;
  const unsigned count = io_uring_peek_batch_cqe(&uring->ring, entries, BATCH);
  pthread_mutex_lock(&uring->lock);
  for (unsigned i = 0; i < count; i++) {
    struct task *task = io_uring_cqe_get_data(entries[i]);
    if (task == NULL) {
      is_end = true;
      continue;
    }
    add_done(is_large_task(task) ? &large : &small, task, entries[i]->res);
    end_task(&uring->queue, task);
  }
  pthread_mutex_unlock(&uring->lock);
  io_uring_cq_advance(&uring->ring, count);
  finish_tasks(&small);
  finish_tasks(&large);
  *is_any = count > 0;
  return is_end;
}

static void *reap(void *running) {
  struct uring *uring = running;
  bool is_left = false;
  for (bool is_end = false; !is_end;) {
    struct io_uring_cqe *entry;
    if (!is_left && io_uring_wait_cqe(&uring->ring, &entry) < 0)
      continue; /* interrupted */
    bool is_any;
    is_end = finish_reaped(uring, &is_any);
    if (!is_any && is_left)
      retry_later();
    is_left = !submit_left(uring, is_left);
  }
  return NULL;
}

/* Old kernels lack some operations, and many containers forbid io_uring. */
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

/* Takes the right to submit for good, when all tasks are done: the thread that submitted the last
 * one may still have it. */
static void take_over(struct uring *uring) {
  for (bool is_taken = false; !is_taken;) {
    pthread_mutex_lock(&uring->lock);
    is_taken = !uring->is_submitting;
    uring->is_submitting = true;
    pthread_mutex_unlock(&uring->lock);
    if (!is_taken)
      retry_later();
  }
}

static void discard(struct uring *uring) {
  pthread_mutex_destroy(&uring->lock);
  free(uring);
}

static int start(unsigned threads, void **running) {
  (void)threads;
  struct uring *uring = calloc(1, sizeof *uring);
  if (uring == NULL)
    return ENOMEM;
  pthread_mutex_init(&uring->lock, NULL);
  uring->queue.max_large_bytes = MAX_LARGE_BYTES;
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
  struct io_uring_sqe *sqe;
  take_over(uring);
  sqe = io_uring_get_sqe(&uring->ring);
  io_uring_prep_nop(sqe);
  io_uring_sqe_set_data(sqe, NULL);
  submit_ring(uring, true);
  pthread_join(uring->reaper, NULL);
  io_uring_queue_exit(&uring->ring);
  discard(uring);
}

const struct engine uring_engine = {"io_uring", start, submit, stop};
