// See thread_pool.hpp.
#include "base/thread_pool.hpp"

#include <chrono>
#include <memory>
#include <pthread.h>
#include <utility>

#include "base/invariant.hpp"

namespace asyncnbd::base {

namespace {

constexpr auto RETIRE_AFTER = std::chrono::seconds(5);

struct NamedTask {
  const char *name;
  std::function<void()> run;
};

void *thread_main(void *argument) {
  const std::unique_ptr<NamedTask> task(static_cast<NamedTask *>(argument));
  pthread_setname_np(pthread_self(), task->name);
  task->run();
  return nullptr;
}

} // namespace

// pthread_create rather than std::thread: failure is an answer here, not an exception.
bool start_thread(const char *name, std::function<void()> task) {
  auto argument = std::make_unique<NamedTask>(NamedTask{name, std::move(task)});
  pthread_t thread;
  if (pthread_create(&thread, nullptr, thread_main, argument.get()) != 0)
    return false;
  (void)argument.release(); // it is the thread's
  pthread_detach(thread);
  return true;
}

bool ThreadPool::start(const char *name, std::function<void()> task) {
  return start_thread(name, std::move(task));
}

bool ThreadPool::run(std::function<void()> task) {
  invariant(task != nullptr, "a thread is given something to do");
  std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  if (idle_ >= tasks_.size()) {
    wake_.notify_one();
    return true;
  }
  // Under the lock, so that on failure the task taken back is surely this one.
  if (start_thread("nbd-connection", [this] { work(); }))
    return true;
  tasks_.pop_back();
  return false;
}

void ThreadPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    idle_++;
    const bool woken = wake_.wait_for(lock, RETIRE_AFTER, [this] { return !tasks_.empty(); });
    idle_--;
    if (!woken)
      return;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    task = nullptr; // what it holds goes before the lock comes
    lock.lock();
  }
}

} // namespace asyncnbd::base
