/* See async-file-queue.h. */

#include "async-file-queue.h"

#include "async-file.h"

bool is_large_task(const struct task *task) {
  const bool moves_data = task->operation == READ || task->operation == WRITE;
  return moves_data && task->count > SMALL_TASK_BYTES;
}

static void append(struct task_list *list, struct task *task) {
  task->next = NULL;
  if (list->first == NULL)
    list->first = task;
  else
    list->last->next = task;
  list->last = task;
}

static struct task *take_first(struct task_list *list) {
  struct task *task = list->first;
  list->first = task->next;
  return task;
}

void queue_task(struct task_queue *queue, struct task *task) {
  append(is_large_task(task) ? &queue->large : &queue->small, task);
}

static bool may_large_begin(const struct task_queue *queue) {
  const struct task *task = queue->large.first;
  return task != NULL &&
         (queue->large_bytes == 0 || queue->large_bytes + task->count <= queue->max_large_bytes);
}

bool has_task_to_begin(const struct task_queue *queue) {
  return queue->small.first != NULL || may_large_begin(queue);
}

struct task *take_task(struct task_queue *queue, bool may_be_large) {
  const bool large_may_begin = may_large_begin(queue);
  const bool has_small = queue->small.first != NULL;
  const bool is_large =
      may_be_large && large_may_begin && (!has_small || queue->passed >= SMALL_TASKS_AHEAD);
  if (is_large) {
    struct task *task = take_first(&queue->large);
    queue->large_bytes += task->count;
    queue->passed = 0;
    return task;
  }
  if (!has_small)
    return NULL;
  if (large_may_begin)
    queue->passed++;
  return take_first(&queue->small);
}

void end_task(struct task_queue *queue, const struct task *task) {
  if (is_large_task(task))
    queue->large_bytes -= task->count;
}
