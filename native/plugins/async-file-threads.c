/* The engine of async-file that works everywhere: threads that make blocking system calls. */

#define _GNU_SOURCE

#include "async-file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the queue and stopping */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct task *first = NULL;
static struct task **end = &first;
static bool stopping = false;

static pthread_t *workers = NULL;
static unsigned worker_count = 0;

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

static void *work(void *unused) {
  (void)unused;
  pthread_mutex_lock(&lock);
  for (;;) {
    struct task *task = first;
    if (task == NULL) {
      if (stopping)
        break;
      pthread_cond_wait(&changed, &lock);
      continue;
    }
    first = task->next;
    if (first == NULL)
      end = &first;
    pthread_mutex_unlock(&lock);
    const int64_t result = call(task);
    task_done(task, result == -1 ? -errno : result);
    pthread_mutex_lock(&lock);
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

static void stop(void) {
  pthread_mutex_lock(&lock);
  stopping = true;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  for (unsigned i = 0; i < worker_count; i++)
    pthread_join(workers[i], NULL);
  free(workers);
}

static int start(unsigned threads) {
  workers = calloc(threads, sizeof *workers);
  if (workers == NULL)
    return ENOMEM;
  for (; worker_count < threads; worker_count++) {
    const int error = pthread_create(&workers[worker_count], NULL, work, NULL);
    if (error != 0) {
      stop();
      return error;
    }
  }
  return 0;
}

static void submit(struct task *task) {
  pthread_mutex_lock(&lock);
  task->next = NULL;
  *end = task;
  end = &task->next;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
}

const struct engine thread_engine = {"threads", start, submit, stop};
