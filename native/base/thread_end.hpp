// Has a function called at the end of threads. Objects that are thread_local and have destructors
// would do the same under a lock of the loader's, which a plugin holds for as long as a library of
// its own takes to load, in whatever thread: until then no thread of ours could begin its work.
// Those would keep this code from being unloaded, too; that is up to the linker (-z nodelete).
#pragma once

#include <pthread.h>
#include <utility>

namespace asyncnbd::base {

// One for the process, for each kind of object; never destroyed. Any thread.
class ThreadEnd {
public:
  explicit ThreadEnd(void (*free)(void *object)) {
    is_made_ = pthread_key_create(&key_, free) == 0;
  }
  ThreadEnd(const ThreadEnd &) = delete;
  ThreadEnd &operator=(const ThreadEnd &) = delete;

  // At the end of this thread. Where the system has no room for that, the object stays.
  void free_then(void *object) const {
    if (is_made_)
      pthread_setspecific(key_, object);
  }

private:
  pthread_key_t key_{};
  bool is_made_ = false;
};

// Makes what a variable of this thread's, which is thread_local and nullptr, is to have until the
// thread ends. One variable for each type.
template <typename T> T &make_for_thread(T *&variable) {
  // Forgotten first: destructors after it may need another.
  static const ThreadEnd end(
      [](void *of) { delete std::exchange(*static_cast<T **>(of), nullptr); });
  variable = new T;
  end.free_then(&variable);
  return *variable;
}

} // namespace asyncnbd::base
