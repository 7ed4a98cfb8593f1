// Runs tasks that may block: the thread pool, or a simulation.
#pragma once

#include <functional>

namespace asyncnbd::base {

class Threads {
public:
  virtual ~Threads() = default;

  // Runs `task` on a thread of its own, at once; false if the system gives no thread, and then the
  // task will not run. Any thread.
  virtual bool run(std::function<void()> task) = 0;

  // As run, for a task that goes on for as long as the process: the thread has this name, of up to
  // 15 characters, and runs nothing else.
  virtual bool start(const char *name, std::function<void()> task) = 0;
};

} // namespace asyncnbd::base
