/* Tasks that wait for an engine. Small ones come first, so that large ones do not hold them up, but
 * only so many of them that large ones get done too. */

#ifndef ASYNC_FILE_QUEUE_H
#define ASYNC_FILE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

struct task;

/* More than this is large. */
#define SMALL_TASK_BYTES 65536
/* This many small tasks may pass a large one that could begin. */
#define SMALL_TASKS_AHEAD 16

struct task_list {
  struct task *first;
  struct task *last;
};

/* Not thread-safe. All zeroes is an empty queue, but the limit must then be set. */
struct task_queue {
  struct task_list small;
  struct task_list large;
  unsigned passed;          /* how many small tasks have passed the first large one */
  uint64_t large_bytes;     /* of large tasks that were taken and have not ended */
  uint64_t max_large_bytes; /* the limit for large_bytes; one task alone may exceed it */
};

bool is_large_task(const struct task *task);
void queue_task(struct task_queue *queue, struct task *task);
/* NULL: there is none that may begin now. */
struct task *take_task(struct task_queue *queue, bool may_be_large);
bool has_task_to_begin(const struct task_queue *queue);
/* Call it when a task that was taken has ended, before anything in it is changed. */
void end_task(struct task_queue *queue, const struct task *task);

#endif /* ASYNC_FILE_QUEUE_H */
