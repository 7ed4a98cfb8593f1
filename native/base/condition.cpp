// See condition.hpp.
#include "base/condition.hpp"

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/invariant.hpp"

namespace asyncnbd::base {

// steady_clock's, which nobody sets.
Condition::Condition() {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  const int error = pthread_cond_init(&condition_, &attributes);
  pthread_condattr_destroy(&attributes);
  invariant(error == 0, "a condition can be made");
}

Condition::~Condition() {
  pthread_cond_destroy(&condition_);
}

void Condition::wait_with(pthread_mutex_t *mutex) {
  const int error = pthread_cond_wait(&condition_, mutex);
  invariant(error == 0, "a condition can be waited for");
}

bool Condition::wait_with(pthread_mutex_t *mutex, Time end) {
  using namespace std::chrono;
  const auto since = std::max(duration_cast<nanoseconds>(end.time_since_epoch()), nanoseconds(0));
  const auto whole = duration_cast<seconds>(since);
  const timespec when{whole.count(), (since - whole).count()};
  const int error = pthread_cond_timedwait(&condition_, mutex, &when);
  invariant(error == 0 || error == ETIMEDOUT, "a condition can be waited for");
  return error == 0;
}

} // namespace asyncnbd::base
