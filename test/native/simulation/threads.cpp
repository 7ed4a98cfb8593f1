// The system's functions for threads, locks and time, as the sources under test see them: the
// linker sends their calls here (--wrap).
#include "threads.hpp"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <map>
#include <pthread.h>
#include <sched.h>
#include <sys/types.h>
#include <utility>

#include "fibers.hpp"
#include "memory_order.hpp"

namespace simulation {

namespace {

constexpr int64_t NS_PER_S = 1'000'000'000;

struct Threads {
  uint64_t refuse_one_in = 0;
  unsigned keys = 0;
  std::map<unsigned, void (*)(void *)> destructors;
};

Threads &threads() {
  static auto *made = new Threads;
  return *made;
}

// What lies in a mutex, which is all zeroes when it is made.
struct Mutex {
  uint64_t owner; // the fiber's number plus one, or 0
};
static_assert(sizeof(Mutex) <= sizeof(pthread_mutex_t));

Mutex &in(pthread_mutex_t *mutex) {
  return *reinterpret_cast<Mutex *>(mutex);
}

bool try_lock(pthread_mutex_t *mutex) {
  show_stores(current_fiber());
  if (in(mutex).owner != 0)
    return false;
  in(mutex).owner = current_fiber().number + 1;
  return true;
}

void lock(pthread_mutex_t *mutex) {
  may_switch();
  while (!try_lock(mutex)) {
    if (in(mutex).owner == current_fiber().number + 1)
      fail("a thread takes a lock that it has");
    wait_for(mutex);
  }
}

void unlock(pthread_mutex_t *mutex) {
  may_switch(); // as long as others do not see what has been stored
  show_stores(current_fiber());
  if (in(mutex).owner != current_fiber().number + 1)
    fail("a thread gives back a lock that it does not have");
  in(mutex).owner = 0;
  wake_one(mutex);
}

// False: the time is over.
bool wait_with(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t due_ns) {
  unlock(mutex);
  const uint64_t wake_one_in = chances_of_run().wake_spuriously_one_in;
  bool is_woken = true;
  try {
    if (wake_one_in > 0 && random_of_run().one_in(wake_one_in))
      yield_fiber();
    else
      is_woken = wait_for(condition, due_ns);
  } catch (const FiberEnds &) {
    try_lock(mutex);
    throw;
  }
  lock(mutex);
  return is_woken;
}

int64_t ns_of(const timespec &time) {
  return time.tv_sec * NS_PER_S + time.tv_nsec;
}

} // namespace

void end_specifics(Fiber &self) {
  while (!self.specifics.empty()) {
    const auto [key, value] = *self.specifics.begin();
    self.specifics.erase(self.specifics.begin());
    if (value != nullptr && threads().destructors[key] != nullptr)
      threads().destructors[key](value);
  }
}

void refuse_threads(uint64_t one_in) {
  threads().refuse_one_in = one_in;
}
} // namespace simulation

using namespace simulation;

extern "C" {

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex) {
  lock(mutex);
  return 0;
}
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex) {
  may_switch();
  return try_lock(mutex) ? 0 : EBUSY;
}
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex) {
  unlock(mutex);
  may_switch();
  return 0;
}

int __wrap_pthread_cond_init(pthread_cond_t *, const pthread_condattr_t *) {
  return 0;
}
int __wrap_pthread_cond_destroy(pthread_cond_t *) {
  return 0;
}
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
  wait_with(condition, mutex, NEVER);
  return 0;
}
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const timespec *end) {
  return wait_with(condition, mutex, ns_of(*end)) ? 0 : ETIMEDOUT;
}
int __wrap_pthread_cond_signal(pthread_cond_t *condition) {
  may_switch();
  wake_one(condition);
  return 0;
}
int __wrap_pthread_cond_broadcast(pthread_cond_t *condition) {
  may_switch();
  wake_all(condition);
  return 0;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *, void *(*start)(void *),
                          void *argument) {
  const uint64_t refuse_one_in = threads().refuse_one_in;
  if (refuse_one_in > 0 && random_of_run().one_in(refuse_one_in))
    return EAGAIN;
  show_stores(current_fiber());
  Fiber &fiber = start_fiber("thread", [start, argument] { start(argument); });
  *thread = fiber.number;
  may_switch();
  return 0;
}
int __wrap_pthread_detach(pthread_t) {
  return 0;
}
pthread_t __wrap_pthread_self() {
  return current_fiber().number;
}
int __wrap_pthread_setname_np(pthread_t, const char *name) {
  current_fiber().name = std::string(name) + " " + std::to_string(current_fiber().number);
  return 0;
}
pid_t __wrap_gettid() {
  return static_cast<pid_t>(current_fiber().number);
}

int __wrap_pthread_key_create(pthread_key_t *key, void (*destructor)(void *)) {
  *key = ++threads().keys;
  threads().destructors[*key] = destructor;
  return 0;
}
int __wrap_pthread_setspecific(pthread_key_t key, const void *value) {
  current_fiber().specifics[key] = const_cast<void *>(value);
  return 0;
}

int __wrap_sched_yield() {
  yield_fiber();
  return 0;
}
int __wrap_nanosleep(const timespec *time, timespec *) {
  sleep_fiber(ns_of(*time));
  return 0;
}
int __wrap_clock_nanosleep(clockid_t, int, const timespec *time, timespec *) {
  sleep_fiber(ns_of(*time));
  return 0;
}

// Objects that are made once: who makes one is not interrupted.
int __real___cxa_guard_acquire(uint64_t *guard);
void __real___cxa_guard_release(uint64_t *guard);
static int guards = 0;
static Uninterrupted *making = nullptr;

int __wrap___cxa_guard_acquire(uint64_t *guard) {
  if (__real___cxa_guard_acquire(guard) == 0)
    return 0;
  if (guards++ == 0)
    making = new Uninterrupted;
  return 1;
}
void __wrap___cxa_guard_release(uint64_t *guard) {
  __real___cxa_guard_release(guard);
  if (--guards == 0)
    delete std::exchange(making, nullptr);
}

// Whether a thread of ours runs, is read here: /proc/self/task/N/stat.
FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode) {
  unsigned thread = 0;
  if (sscanf(path, "/proc/self/task/%u/stat", &thread) != 1)
    return __real_fopen(path, mode);
  static char runs[] = "1 (x) R 0";
  static char sleeps[] = "1 (x) S 0";
  char *text = is_ready(thread) ? runs : sleeps;
  return fmemopen(text, strlen(text), "r");
}

// std::chrono::steady_clock::now
std::chrono::steady_clock::time_point __wrap__ZNSt6chrono3_V212steady_clock3nowEv() {
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(look_at_clock()));
}
}
