/* Tasks that wait for an engine. Those that move little come first, but not only those: what
 * others have asked for by the mebibyte holds up nobody, and gets done. */

#ifndef ASYNC_FILE_QUEUE_H
#define ASYNC_FILE_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

struct task;

/* More than this is large. */
#define SMALL_TASK_BYTES 65536
/* So many small tasks may pass a large one that could begin. */
#define SMALL_TASKS_AHEAD 16

struct task_list {
  struct task *first;
  struct task *last;
};

/* Not thread-safe. Zeroes are one that is empty, but for the limit. */
struct task_queue {
  struct task_list small;
  struct task_list large;
  unsigned passed;          /* by small tasks: the first of the large ones */
  uint64_t large_bytes;     /* of large tasks that were taken and have not ended */
  uint64_t max_large_bytes; /* that they may have together, unless it is one alone */
};

bool is_large_task(const struct task *task);
void queue_task(struct task_queue *queue, struct task *task);
/* NULL: there is none that may begin now. */
struct task *take_task(struct task_queue *queue, bool may_be_large);
bool has_task_to_begin(const struct task_queue *queue);
/* Of a task that was taken, before anything of it is changed. */
void end_task(struct task_queue *queue, const struct task *task);

#endif /* ASYNC_FILE_QUEUE_H */
