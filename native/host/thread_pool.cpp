// See thread_pool.hpp.
#include "host/thread_pool.hpp"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <pthread.h>

namespace asyncnbd::host {

namespace {

class ThreadPool {
public:
  bool run(std::function<void()> task) {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    if (idle_ >= tasks_.size()) {
      wake_.notify_one();
      return true;
    }
    // Under the lock, so that on failure the task taken back is surely this one.
    if (start_thread(&ThreadPool::thread_main, this))
      return true;
    tasks_.pop_back();
    return false;
  }

private:
  static constexpr auto RETIRE_AFTER = std::chrono::seconds(5);

  static void *thread_main(void *pool) {
    pthread_setname_np(pthread_self(), "nbd-connection");
    static_cast<ThreadPool *>(pool)->work();
    return nullptr;
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      idle_++;
      bool woken = wake_.wait_for(lock, RETIRE_AFTER, [this] { return !tasks_.empty(); });
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

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  size_t idle_ = 0;
};

// Never destroyed: its threads outlive main's statics.
ThreadPool &thread_pool() {
  static ThreadPool *pool = new ThreadPool;
  return *pool;
}

} // namespace

// pthread_create rather than std::thread: failure is an answer here, not an exception.
bool start_thread(void *(*function)(void *), void *argument) {
  pthread_t thread;
  if (pthread_create(&thread, nullptr, function, argument) != 0)
    return false;
  pthread_detach(thread);
  return true;
}

bool run_on_pool(std::function<void()> task) {
  return thread_pool().run(std::move(task));
}

} // namespace asyncnbd::host
