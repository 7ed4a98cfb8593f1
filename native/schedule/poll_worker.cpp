// See poll_worker.hpp.
#include "schedule/poll_worker.hpp"

#include <chrono>
#include <cstdio>
#include <cstring>
#include <unistd.h>
#include <utility>

#include "base/invariant.hpp"
#include "schedule/pollable.hpp"

namespace asyncnbd::schedule {

namespace {

// A worker whose turn is blocked for this long is replaced: others must not wait for it.
constexpr std::chrono::milliseconds LONG_TURN{2};
// After this long it is replaced even if the turn computes.
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

PollWorker::PollWorker(WorkerStarter &starter, const base::Clock &clock, SlowCallDetector &detector,
                       SpinLimit &spin_limit, unsigned spin_us)
    : turns_(detector), spinner_(clock, spin_limit, spin_us), send_ahead_limit_(clock),
      starter_(starter), clock_(clock), detector_(detector), thread_(gettid()) {
  worker_of_this_thread = this;
  detector_.add(this, turns_.word());
}

PollWorker::~PollWorker() {
  detector_.remove(this);
  worker_of_this_thread = nullptr;
}

PollWorker *PollWorker::of_this_thread() {
  return worker_of_this_thread;
}

bool PollWorker::serve(Registration &registration) {
  base::invariant(registration.pollable != nullptr, "a pollable that is served is registered");
  may_release_memory_ = true;
  const int64_t now = base::in_ms(clock_.now());
  turn_began_ms_.store(now, std::memory_order_relaxed);
  registration.last_turn_ms.store(now, std::memory_order_relaxed);
  const uint64_t turn = turns_.begin_call();
  registration.worker.store(this, std::memory_order_release);
  Pollable::Turn done = registration.pollable->resume();
  PollWorker *self = this; // unless another worker has the pollable already
  registration.worker.compare_exchange_strong(self, nullptr, std::memory_order_relaxed);
  if (!turns_.end_call(turn))
    return false;
  send_ahead_limit_.sent(std::move(done.client), done.reply_bytes);
  return true;
}

// Returns false: long ticks suffice for what counts as long here.
bool PollWorker::on_slow_call(uint64_t) {
  const std::chrono::milliseconds lasts{base::in_ms(clock_.now()) - turn_began_ms()};
  if (lasts >= LONG_TURN && (lasts >= ENDLESS_TURN || is_blocked(thread_)))
    replace();
  return false;
}

void PollWorker::replace() {
  const uint64_t turn = turns_.current_call();
  if (turn != 0 && turns_.take(turn))
    starter_.start_worker();
}

UnfilledWorkers::UnfilledWorkers(WorkerStarter &starter, SlowCallDetector &detector)
    : starter_(starter) {
  detector.add(this, word_);
}

bool UnfilledWorkers::on_slow_call(uint64_t) {
  if (take())
    starter_.start_worker();
  return true;
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
