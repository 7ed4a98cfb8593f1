// See rbd-waiting.hpp.
#include "rbd-waiting.hpp"

#include <exception>
#include <thread>
#include <utility>

namespace rbd {

Patience::Patience(unsigned seconds) : is_limited_(seconds != 0) {
  clock_gettime(CLOCK_MONOTONIC, &until_);
  until_.tv_sec += static_cast<time_t>(seconds);
}

Condition::Condition() {
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&condition_, &attributes);
  pthread_condattr_destroy(&attributes);
}

void start_thread(std::function<void()> work) {
  std::thread(std::move(work)).detach();
}

bool Errands::run_in_time(const Patience &patience, std::function<void()> errand) {
  std::unique_lock lock(state_->mutex);
  if (!state_->changed.wait_for(lock, patience, [&] { return !state_->is_busy; }))
    return false;
  struct Outcome {
    bool is_there = false;
    std::exception_ptr failure;
  };
  auto outcome = std::make_shared<Outcome>();
  start_thread([state = state_, outcome, errand = std::move(errand)] {
    std::exception_ptr failure;
    try {
      errand();
    } catch (...) {
      failure = std::current_exception();
    }
    std::lock_guard lock(state->mutex);
    *outcome = {true, std::move(failure)};
    state->is_busy = false;
    state->changed.broadcast();
  });
  state_->is_busy = true;
  if (!state_->changed.wait_for(lock, patience, [&] { return outcome->is_there; }))
    return false;
  // Taken out of the outcome, so that the errand's thread does not free an exception that the
  // caller still reads.
  if (std::exception_ptr failure = std::exchange(outcome->failure, nullptr); failure != nullptr)
    std::rethrow_exception(std::move(failure));
  return true;
}

} // namespace rbd
