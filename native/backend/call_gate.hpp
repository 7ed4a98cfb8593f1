// Lets one call through at a time, from its start until it is answered: unlike a mutex, it may be
// unlocked by another thread than the one that locked it. For std::unique_lock.
#pragma once

#include <semaphore>

namespace asyncnbd::backend {

class CallGate {
public:
  void lock() { free_.acquire(); }
  bool try_lock() { return free_.try_acquire(); }
  void unlock() { free_.release(); }

private:
  std::binary_semaphore free_{1};
};

} // namespace asyncnbd::backend
