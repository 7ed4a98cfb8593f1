// Decides whether a thread that has nothing to read should look again and again for a moment
// before it sleeps: being woken costs more than most requests do.
#pragma once

#include <chrono>

namespace asyncnbd::connection {

// One per connection, used by its leader.
class Spinner {
public:
  // 0 microseconds: never spins.
  explicit Spinner(unsigned budget_us) : budget_(budget_us) {}

  // Calls `is_ready` until it returns true or the time is up. False at once where spinning has
  // not paid lately, or would take the last core from others.
  template <typename IsReady> bool spin(IsReady is_ready) {
    if (!may_spin())
      return false;
    const auto deadline = std::chrono::steady_clock::now() + budget_;
    bool ready;
    do {
      yield();
      ready = is_ready();
    } while (!ready && std::chrono::steady_clock::now() < deadline);
    account(ready);
    return ready;
  }

private:
  bool may_spin();
  void account(bool paid);
  static void yield();

  std::chrono::microseconds budget_;
  unsigned credit_ = 1;  // failures we can still afford
  unsigned skipped_ = 0; // chances passed up since the credit was used up
};

} // namespace asyncnbd::connection
