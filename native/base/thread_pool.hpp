// Threads for connections and for plugin calls that may block: made on demand, retired when idle.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>

#include "base/mutex.hpp"
#include "base/threads.hpp"

namespace asyncnbd::base {

// Never destroyed: its threads use it until the process ends.
class ThreadPool final : public Threads {
public:
  ThreadPool() = default;
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  bool run(std::function<void()> task) override;
  bool start(const char *name, std::function<void()> task) override;

private:
  void work();

  Mutex<LockRank::thread_pool> mutex_; // guards the rest
  Condition wake_;
  std::deque<std::function<void()>> tasks_;
  size_t idle_ = 0;
};

// A detached thread; false if the system gives none. The name has up to 15 characters.
bool start_thread(const char *name, std::function<void()> task);

} // namespace asyncnbd::base
