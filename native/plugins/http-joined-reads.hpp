// Joins reads of one file or disk in front of the HTTP client: adjacent reads become one request if
// they have arrived by the time that the client's thread is free to send them. So no read is
// delayed, and one that comes alone is sent alone.
#ifndef ASYNCNBD_HTTP_JOINED_READS_HPP
#define ASYNCNBD_HTTP_JOINED_READS_HPP

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "http-client.hpp"

namespace http {

struct JoinLimits {
  unsigned requests; // at once
  /// The most in one request while there are free connections for all reads. A store takes about as
  /// long for this as for less, and more than this arrives sooner over several connections.
  uint64_t small_bytes = 128 << 10;
  uint64_t most_bytes;         // the most in one request while reads wait for others to end
  uint64_t boundary_bytes = 0; // no request crosses a multiple of this; 0: there is none
  /// A read that has waited for this long is sent next: reads are sent in ascending order, and new
  /// ones above it could come again and again. Reads that came further apart are not joined,
  /// because all reads of a request have the deadline of the first.
  std::chrono::milliseconds patience{100};
};

/// A `Read` that is destroyed before it was answered fails.
template <typename Read> class JoinedReads {
public:
  /// Reads that are one request, in ascending order.
  struct Group {
    std::vector<Read> reads;
    uint64_t offset = 0;
    uint64_t count = 0;
    Clock::time_point since; // when the first of them came: the deadline counts from then
  };

  /// `send` is called on the client's thread; for each call, is_over() must follow there too.
  JoinedReads(const JoinLimits &limits, std::function<void(Group)> send)
      : limits_(limits), send_(std::move(send)) {}

  /// Any thread. `Caller` is Client, whose thread sends. If there is no memory, the read fails, or
  /// this throws std::bad_alloc.
  template <typename Caller> void add(Caller &client, uint64_t offset, uint64_t count, Read read) {
    bool is_first = false;
    {
      std::lock_guard lock(mutex_);
      waiting_.emplace(offset, Waiting{std::move(read), count, Clock::now()});
      is_first = !std::exchange(is_called_, true);
    }
    if (!is_first)
      return;
    try {
      client.call([this] {
        {
          std::lock_guard lock(mutex_);
          is_called_ = false;
        }
        send_waiting();
      });
    } catch (const std::bad_alloc &) {
      fail_waiting();
    }
  }

  /// A request has ended. On the client's thread.
  void is_over() {
    {
      std::lock_guard lock(mutex_);
      sent_--;
    }
    send_waiting();
  }

private:
  struct Waiting {
    Read read;
    uint64_t count;
    Clock::time_point since;
  };
  static constexpr size_t MAX_READS = 256; // in one request

  void send_waiting() {
    for (;;) {
      Group group;
      {
        std::lock_guard lock(mutex_);
        if (waiting_.empty() || sent_ == limits_.requests)
          return;
        group = take();
        sent_++;
      }
      try {
        send_(std::move(group));
      } catch (const std::bad_alloc &) { // its reads have failed
        std::lock_guard lock(mutex_);
        sent_--;
      }
    }
  }

  void fail_waiting() {
    std::multimap<uint64_t, Waiting> failed;
    std::lock_guard lock(mutex_);
    is_called_ = false;
    failed.swap(waiting_);
  }

  using Place = typename std::multimap<uint64_t, Waiting>::iterator;

  /// Under the mutex, as the functions below. Reads are taken in ascending order, and then again
  /// from the lowest.
  Place next() {
    const Clock::time_point now = Clock::now();
    if (now >= next_look_) {
      next_look_ = now + limits_.patience;
      const Place oldest =
          std::min_element(waiting_.begin(), waiting_.end(), [](const auto &a, const auto &b) {
            return a.second.since < b.second.since;
          });
      if (now - oldest->second.since >= limits_.patience)
        return oldest;
    }
    const Place above = waiting_.lower_bound(next_offset_);
    return above == waiting_.end() ? waiting_.begin() : above;
  }

  bool are_apart(Clock::time_point a, Clock::time_point b) const {
    return std::max(a, b) - std::min(a, b) > limits_.patience;
  }

  Group take() {
    const bool are_all_sent = waiting_.size() <= limits_.requests - sent_;
    const uint64_t most = are_all_sent ? limits_.small_bytes : limits_.most_bytes;
    Place at = next();
    Group group;
    group.offset = at->first;
    group.since = at->second.since;
    const uint64_t boundary =
        limits_.boundary_bytes == 0
            ? UINT64_MAX
            : (group.offset / limits_.boundary_bytes + 1) * limits_.boundary_bytes;
    do {
      group.count += at->second.count;
      group.since = std::min(group.since, at->second.since);
      group.reads.push_back(std::move(at->second.read));
      at = waiting_.erase(at);
    } while (at != waiting_.end() && at->first == group.offset + group.count &&
             group.count + at->second.count <= most && at->first < boundary &&
             !are_apart(group.since, at->second.since) && group.reads.size() < MAX_READS);
    next_offset_ = group.offset + group.count;
    return group;
  }

  const JoinLimits limits_;
  const std::function<void(Group)> send_;
  std::mutex mutex_; // guards everything below; nothing is sent while it is held
  std::multimap<uint64_t, Waiting> waiting_; // by offset
  uint64_t next_offset_ = 0;
  Clock::time_point next_look_; // when to look for a read that has waited too long
  unsigned sent_ = 0;           // requests under way
  bool is_called_ = false;      // the client's thread was asked to send what waits
};

/// What is left of a time that began at `since`; at least 1, so that the request is sent and ends
/// with the right error.
inline unsigned left_ms(unsigned whole_ms, Clock::time_point since) {
  const int64_t passed_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since).count();
  return passed_ms < whole_ms ? whole_ms - static_cast<unsigned>(passed_ms) : 1;
}

} // namespace http

#endif
