// See rbd-requests.hpp.
#include "rbd-requests.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>
#include <system_error>
#include <utility>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "rbd-errors.hpp"

namespace rbd {

namespace {

// With at most this many in flight, librbd's thread answers them, and completes no others
// meanwhile.
constexpr uint32_t ANSWER_AT_ONCE_UP_TO = 2;

// With this many in flight, more are about to complete, so the answerer waits a little: answering
// them together delays each only slightly, and takes much less processor time.
constexpr uint32_t LINGER_FROM = 16;
constexpr long LINGER_NS = 100'000;

constexpr int BATCH = 64;

constexpr long CLOSING_POLL_NS = 1'000'000;

void sleep_ns(long ns) {
  const timespec time{0, ns};
  nanosleep(&time, nullptr);
}

} // namespace

// ---- start and end ------------------------------------------------------------------------------

int Requests::start() {
  try {
    answerer_ = std::thread([this] { answer_completed(); });
    return 0;
  } catch (const std::system_error &error) {
    return error.code().value();
  }
}

Requests::~Requests() {
  if (!answerer_.joinable())
    return;
  {
    std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.signal();
  answerer_.join();
}

// ---- requests -----------------------------------------------------------------------------------

/// Null if there is no memory for it.
Task *Requests::make_task(const Pending &pending, char *read_into, bool flush) {
  std::unique_ptr<Task> task(new (std::nothrow) Task{pending, this, read_into, flush});
  if (task != nullptr && read_into != nullptr && deadlines_.are_set()) {
    task->own_memory.reset(new (std::nothrow) char[pending.count]);
    if (task->own_memory == nullptr)
      return nullptr;
  }
  return task.release();
}

/// A negative errno if librbd does not take it.
template <typename Submit> int Requests::give(Task *task, Submit submit_to) {
  rbd_completion_t completion = nullptr;
  int result = library_.rbd_aio_create_completion(task, on_complete, &completion);
  if (result < 0)
    return result;
  result = submit_to(*task, completion);
  if (result < 0)
    library_.rbd_aio_release(completion);
  return result;
}

template <typename Submit>
int Requests::submit(const Pending &pending, char *read_into, bool flush, Submit submit_to) {
  Task *const task = make_task(pending, read_into, flush);
  if (task == nullptr)
    return refuse(-ENOMEM);
  if (const int error = deadlines_.begin(*task)) {
    delete task;
    nbdkit_set_error(error);
    return -1;
  }
  in_flight_.fetch_add(1, std::memory_order_relaxed);
  const int result = give(task, submit_to);
  if (result >= 0)
    return 0;
  in_flight_.fetch_sub(1, std::memory_order_relaxed);
  const bool is_awaited = deadlines_.end(*task);
  delete task;
  return is_awaited ? refuse(result) : 0;
}

int Requests::refuse(int result) const {
  nbdkit_error("%s: a request failed: %s", full_name_.c_str(), strerror(-result));
  nbdkit_set_error(client_error(result));
  return -1;
}

int Requests::read(void *conn, uint64_t reqid, char *buf, uint32_t count, uint64_t offset) {
  return submit({conn, reqid, offset, count, false, count}, buf, false,
                [&](const Task &task, rbd_completion_t completion) {
                  char *const into = task.own_memory == nullptr ? buf : task.own_memory.get();
                  return library_.rbd_aio_read(image_, offset, count, into, completion);
                });
}

int Requests::write(void *conn, uint64_t reqid, bool flush, const char *buf, uint32_t count,
                    uint64_t offset) {
  return submit({conn, reqid, offset, count, true, count}, nullptr, flush,
                [&](const Task &, rbd_completion_t completion) {
                  return library_.rbd_aio_write(image_, offset, count, buf, completion);
                });
}

int Requests::discard(void *conn, uint64_t reqid, bool flush, uint32_t count, uint64_t offset) {
  return submit({conn, reqid, offset, count, true}, nullptr, flush,
                [&](const Task &, rbd_completion_t completion) {
                  return library_.rbd_aio_discard(image_, offset, count, completion);
                });
}

int Requests::write_zeroes(void *conn, uint64_t reqid, bool flush, uint32_t count, uint64_t offset,
                           bool may_trim) {
  const int zero_flags = may_trim ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION;
  return submit({conn, reqid, offset, count, true}, nullptr, flush,
                [&](const Task &, rbd_completion_t completion) {
                  return library_.rbd_aio_write_zeroes(image_, offset, count, completion,
                                                       zero_flags, 0);
                });
}

int Requests::flush(void *conn, uint64_t reqid) {
  return submit({conn, reqid, 0, 0, false}, nullptr, false,
                [&](const Task &, rbd_completion_t completion) {
                  return library_.rbd_aio_flush(image_, completion);
                });
}

// ---- completions --------------------------------------------------------------------------------

void Requests::on_complete(rbd_completion_t completion, void *argument) noexcept {
  Task *const task = static_cast<Task *>(argument);
  Requests &requests = *task->owner;
  task->result = requests.library_.rbd_aio_get_return_value(completion);
  requests.library_.rbd_aio_release(completion);
  requests.completed(task);
}

void Requests::completed(Task *task) {
  if (in_flight_.load(std::memory_order_relaxed) <= ANSWER_AT_ONCE_UP_TO) {
    finish(task);
    return;
  }
  std::lock_guard lock(mutex_);
  task->next = std::exchange(completed_, task);
  // Signal with the lock held: once it is free, the answerer may finish this request without a
  // signal (a deadline wakes it, too), and if it was the last request, `this` may be gone.
  if (std::exchange(is_asleep_, false))
    changed_.signal();
}

/// Begins the flush that is to follow a request, if that has succeeded and its client still waits.
/// Whether the flush has begun.
bool Requests::flushes_now(Task *task) {
  if (task->result < 0 || !std::exchange(task->then_flush, false) || deadlines_.is_overdue(*task))
    return false;
  const int begun = give(task, [&](const Task &, rbd_completion_t completion) {
    return library_.rbd_aio_flush(image_, completion);
  });
  if (begun < 0)
    task->result = begun;
  return begun >= 0;
}

/// Ends a task, unless it goes on with a flush. `this` may be gone once in_flight_ is reduced.
void Requests::finish(Task *task) {
  if (flushes_now(task))
    return;
  if (deadlines_.end(*task))
    reply(*task);
  delete task;
  in_flight_.fetch_sub(1, std::memory_order_release);
}

void Requests::reply(const Task &task) {
  if (task.result < 0) {
    // A snapshot is never opened for writing, so -EROFS means the lock.
    nbdkit_error("%s: a request failed: %s", full_name_.c_str(),
                 task.result == -ESHUTDOWN
                     ? "the cluster has fenced this client off; restart the server"
                 : task.result == -EROFS ? "another client holds the image's exclusive lock"
                                         : strerror(static_cast<int>(-task.result)));
    nbdkit_async_reply_errno(task.conn, task.reqid, client_error(task.result));
  } else if (task.read_into == nullptr) {
    nbdkit_async_reply(task.conn, task.reqid);
  } else {
    // Another client may have shrunk the image; the missing part reads as zeroes.
    const size_t got = std::min<size_t>(static_cast<size_t>(task.result), task.count);
    if (task.own_memory != nullptr)
      memcpy(task.read_into, task.own_memory.get(), got);
    memset(task.read_into + got, 0, task.count - got);
    nbdkit_async_reply_read(task.conn, task.reqid, task.count, task.read_into);
  }
}

// ---- the answerer -------------------------------------------------------------------------------

void Requests::answer_completed() {
  timespec next = deadlines_.expire();
  while (!has_ended()) {
    finish_all(take_completed(next));
    if (deadlines_.are_set())
      next = deadlines_.expire();
  }
}

bool Requests::has_ended() {
  {
    std::lock_guard lock(mutex_);
    if (!is_over_)
      return false;
  }
  if (in_flight_.load(std::memory_order_acquire) == 0)
    return true;
  // Nobody signals: librbd's thread may finish the last request, and may not use `this` after that.
  sleep_ns(CLOSING_POLL_NS);
  return false;
}

/// The completed tasks, the last one first. Null: there are none, but a deadline or the end is due.
Task *Requests::take_completed(const timespec &until) {
  std::unique_lock lock(mutex_);
  if (completed_ == nullptr && !is_over_) {
    is_asleep_ = true;
    if (deadlines_.are_set())
      changed_.wait_until(lock, until);
    else
      changed_.wait(lock);
    is_asleep_ = false;
  }
  if (in_flight_.load(std::memory_order_relaxed) >= LINGER_FROM) {
    lock.unlock();
    sleep_ns(LINGER_NS);
    lock.lock();
  }
  return std::exchange(completed_, nullptr);
}

void Requests::finish_all(Task *last) {
  Task *first = nullptr;
  while (last != nullptr) {
    Task *const before = std::exchange(last->next, first);
    first = std::exchange(last, before);
  }
  while (first != nullptr) {
    nbdkit_async_batch_begin();
    for (int i = 0; i < BATCH && first != nullptr; i++) {
      Task *const next = first->next;
      finish(first);
      first = next;
    }
    nbdkit_async_batch_end();
  }
}

} // namespace rbd
