// See timely_close.hpp.
#include "backend/timely_close.hpp"

#include <thread>

namespace asyncnbd::backend {

namespace {

class GiveUpTimer final : public base::Timer {
public:
  GiveUpTimer(Backend &backend, const Resources &resources)
      : backend_(backend), resources_(resources) {}
  ~GiveUpTimer() override { resources_.timers.cancel(*this); }

  // False: the system has no thread for timers.
  bool set(std::chrono::milliseconds after) {
    return resources_.timers.set(*this, resources_.clock.now() + after);
  }

private:
  void on_due() override {
    backend_.give_up_unanswered();
    set(GIVE_UP_AGAIN_AFTER);
  }

  Backend &backend_;
  const Resources &resources_;
};

} // namespace

void close_in_time(Backend &backend, const Resources &resources, std::chrono::milliseconds grace) {
  GiveUpTimer timer(backend, resources);
  if (!timer.set(grace)) // rather too early than never
    backend.give_up_unanswered();
  backend.close();
}

void give_up_all(Backend &backend, const std::atomic<uint32_t> &in_flight) {
  constexpr std::chrono::milliseconds STEP{1};
  std::chrono::milliseconds left{0};
  while (in_flight.load(std::memory_order_acquire) > 0) {
    if (left <= STEP) {
      backend.give_up_unanswered();
      left = GIVE_UP_AGAIN_AFTER;
    } else {
      std::this_thread::sleep_for(STEP);
      left -= STEP;
    }
  }
}

} // namespace asyncnbd::backend
