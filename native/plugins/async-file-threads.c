/* The engine of async-file that works everywhere: threads that make blocking system calls. */

#define _GNU_SOURCE

#include "async-file-queue.h"
#include "async-file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

struct pool {
  pthread_mutex_t lock; /* guards the queue and stopping */
  pthread_cond_t changed;
  struct task_queue queue;
  bool stopping;

  pthread_t *workers;
  unsigned worker_count;
};

static int64_t call(const struct task *task) {
  const struct iovec data = {task->data, task->count};
  switch (task->operation) {
  case READ:
    return preadv(task->fd, &data, 1, (off_t)task->offset);
  case WRITE:
    return pwritev2(task->fd, &data, 1, (off_t)task->offset, task->durable ? RWF_DSYNC : 0);
  case SYNC:
    return fdatasync(task->fd);
  case PUNCH_HOLE:
    return fallocate(task->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)task->offset,
                     task->count);
  case ZERO_RANGE:
    return fallocate(task->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)task->offset,
                     task->count);
  case PREFETCH:
    errno = posix_fadvise(task->fd, (off_t)task->offset, task->count, POSIX_FADV_WILLNEED);
    return errno == 0 ? 0 : -1;
  }
  errno = EINVAL;
  return -1;
}

static void *work(void *running) {
  struct pool *pool = running;
  pthread_mutex_lock(&pool->lock);
  for (;;) {
    struct task *task = take_task(&pool->queue, true);
    if (task == NULL) {
      if (pool->stopping)
        break;
      pthread_cond_wait(&pool->changed, &pool->lock);
      continue;
    }
    pthread_mutex_unlock(&pool->lock);
    const int64_t result = call(task);
    const int64_t outcome = result == -1 ? -errno : result;
    pthread_mutex_lock(&pool->lock);
    end_task(&pool->queue, task);
    pthread_mutex_unlock(&pool->lock);
    task_done(task, outcome);
    pthread_mutex_lock(&pool->lock);
  }
  pthread_mutex_unlock(&pool->lock);
  return NULL;
}

static void stop(void *running) {
  struct pool *pool = running;
  pthread_mutex_lock(&pool->lock);
  pool->stopping = true;
  pthread_cond_broadcast(&pool->changed);
  pthread_mutex_unlock(&pool->lock);
  for (unsigned i = 0; i < pool->worker_count; i++)
    pthread_join(pool->workers[i], NULL);
  free(pool->workers);
  pthread_cond_destroy(&pool->changed);
  pthread_mutex_destroy(&pool->lock);
  free(pool);
}

static int start(unsigned threads, void **running) {
  struct pool *pool = calloc(1, sizeof *pool);
  if (pool == NULL)
    return ENOMEM;
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->changed, NULL);
  pool->queue.max_large_bytes = UINT64_MAX; /* the number of threads is the limit */
  pool->workers = calloc(threads, sizeof *pool->workers);
  if (pool->workers == NULL) {
    stop(pool);
    return ENOMEM;
  }
  for (; pool->worker_count < threads; pool->worker_count++) {
    const int error = pthread_create(&pool->workers[pool->worker_count], NULL, work, pool);
    if (error != 0) {
      stop(pool);
      return error;
    }
  }
  *running = pool;
  return 0;
}

static void submit(void *running, struct task *task) {
  struct pool *pool = running;
  pthread_mutex_lock(&pool->lock);
  queue_task(&pool->queue, task);
  pthread_cond_signal(&pool->changed);
  pthread_mutex_unlock(&pool->lock);
}

const struct engine thread_engine = {"threads", start, submit, stop};
