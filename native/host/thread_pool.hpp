// Threads for connections and for plugin calls that may block: made on demand, retired when idle.
#pragma once

#include <functional>

namespace asyncnbd::host {

// Process-wide pool. Runs `task` on a thread of its own, at once; false if the system gives no
// thread, and then the task will not run. Any thread.
bool run_on_pool(std::function<void()> task);

// A detached thread that is nobody's to reuse; false if the system gives none.
bool start_thread(void *(*function)(void *), void *argument);

} // namespace asyncnbd::host
