// See poll_worker.hpp.
#include "schedule/poll_worker.hpp"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <unistd.h>
#include <utility>

#include "schedule/idle_poller.hpp"
#include "schedule/pollable.hpp"
#include "schedule/runtime.hpp"

namespace asyncnbd::schedule {

namespace {

// A turn that takes longer is of something that waits: other pollables must not wait with it.
constexpr std::chrono::milliseconds LONG_TURN{2};
// From here on, even if it does not wait but computes.
constexpr std::chrono::milliseconds ENDLESS_TURN{20};

constinit thread_local PollWorker *worker_of_this_thread = nullptr;

// Whether a thread of ours waits for something, rather than for a processor.
bool is_blocked(pid_t thread) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
  FILE *file = fopen(path, "re");
  if (file == nullptr)
    return true;
  char line[256];
  const size_t length = fread(line, 1, sizeof line - 1, file);
  fclose(file);
  line[length] = '\0';
  const char *state = strrchr(line, ')'); // the name before it may have any character
  return state == nullptr || strncmp(state, ") R", 3) != 0;
}

} // namespace

PollWorker::PollWorker(IdlePoller &poller, Runtime &runtime, unsigned spin_us)
    : turns_(runtime.slow_calls), spinner_(runtime.clock, runtime.spin_limit, spin_us),
      send_ahead_limit_(runtime.clock), poller_(poller), runtime_(runtime), thread_(gettid()) {
  worker_of_this_thread = this;
  runtime_.slow_calls.add(this, turns_.word());
}

PollWorker::~PollWorker() {
  runtime_.slow_calls.remove(this);
  worker_of_this_thread = nullptr;
}

PollWorker *PollWorker::of_this_thread() {
  return worker_of_this_thread;
}

bool PollWorker::serve(Registration &registration) {
  may_release_memory_ = true;
  const int64_t now = poller_.now_ms();
  turn_began_ms_.store(now, std::memory_order_relaxed);
  registration.last_turn_ms.store(now, std::memory_order_relaxed);
  const uint64_t turn = turns_.begin_call();
  registration.worker.store(this, std::memory_order_release);
  Pollable::Turn done = registration.pollable->resume();
  PollWorker *self = this; // perhaps no longer: the pollable may be another worker's already
  registration.worker.compare_exchange_strong(self, nullptr, std::memory_order_relaxed);
  if (!turns_.end_call(turn))
    return false;
  send_ahead_limit_.sent(std::move(done.client), done.reply_bytes);
  return true;
}

void PollWorker::on_slow_call(uint64_t) {
  const std::chrono::milliseconds lasts{poller_.now_ms() - turn_began_ms()};
  if (lasts >= LONG_TURN && (lasts >= ENDLESS_TURN || is_blocked(thread_)))
    replace();
}

void PollWorker::replace() {
  const uint64_t turn = turns_.current_call();
  if (turn != 0 && turns_.take(turn))
    poller_.start_worker();
}

UnfilledWorkers::UnfilledWorkers(IdlePoller &poller, SlowCallDetector &detector) : poller_(poller) {
  detector.add(this, word_);
}

void UnfilledWorkers::on_slow_call(uint64_t) {
  if (take())
    poller_.start_worker();
}

bool UnfilledWorkers::change_by(int change) {
  uint64_t word = word_.load();
  for (;;) {
    if (word == 0 && change < 0)
      return false;
    const uint64_t count = (word >> 1) + static_cast<uint64_t>(change);
    if (word_.compare_exchange_weak(word, count > 0 ? count << 1 | 1 : 0))
      return true;
  }
}

} // namespace asyncnbd::schedule
