// Ends connections whose clients do not go on: they have begun a request and do not send the rest,
// or do not take the replies to what they have asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>

namespace asyncnbd::connection {

// What a client is waited for.
enum class Stall { sends_nothing, takes_nothing };

// Measures one direction of a client that is waited for. Thread-safe.
class StallMeter {
public:
  using Clock = std::chrono::steady_clock;

  // Since when the client, which has moved so many bytes in all by now, has been too slow: it has
  // not moved much since then, nor come to the end of what it does. `part` tells its parts apart.
  Clock::time_point slow_since(uint64_t moved_bytes, uint64_t part);

private:
  std::mutex mutex_;
  Clock::time_point since_{};
  uint64_t moved_bytes_ = 0;
  uint64_t part_ = UINT64_MAX;
};

// Whose client may stall.
class Stallable {
public:
  virtual ~Stallable() = default;
  // On the guard's thread, which must not be blocked, or delayed.
  virtual void on_stall(Stall stall, std::chrono::milliseconds lasts) = 0;
  virtual bool keeps_others_waiting() const = 0;
};

// As long as it lives, a client is waited for that has been slow since then: it is reported after
// `limit`, or earlier if others wait for its memory.
class StallWatch {
public:
  // A client may be slow for so long before anybody need watch.
  static constexpr std::chrono::milliseconds UNWATCHED{1000};

  StallWatch(Stallable &whose, Stall stall, StallMeter::Clock::time_point since,
             std::chrono::milliseconds limit);
  ~StallWatch();
  StallWatch(const StallWatch &) = delete;
  StallWatch &operator=(const StallWatch &) = delete;

private:
  friend class StallGuard;
  Stallable &whose_;
  const Stall stall_;
  const StallMeter::Clock::time_point since_;
  const std::chrono::milliseconds limit_;
  bool is_reported_ = false;
};

} // namespace asyncnbd::connection
