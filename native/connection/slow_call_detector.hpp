// Who may read a connection's requests, and a detector that notices when whoever does is stuck in
// a call of the plugin.
#pragma once

#include <atomic>
#include <cstdint>

namespace asyncnbd::connection {

// Whether a call is in progress: odd while it is, then the call's number.
using CallWord = std::atomic<uint64_t>;

// Who may read a connection's requests. The thread that leads it marks its calls into a plugin;
// while a call lasts, another thread may take the lead, which the first one finds out when its
// call ends. Between calls the lead cannot be taken.
class LeaderToken {
public:
  LeaderToken();
  ~LeaderToken();
  LeaderToken(const LeaderToken &) = delete;
  LeaderToken &operator=(const LeaderToken &) = delete;

  // Leader only. Returns the call's number for end_call.
  uint64_t begin_call();
  // False: the lead was taken meanwhile.
  bool end_call(uint64_t call);

  // The call in progress, 0 if there is none.
  uint64_t current_call() const;
  // Any thread, for a call seen by current_call. True: the caller leads now.
  bool take(uint64_t call);

  const CallWord &word() const { return word_; }

private:
  CallWord &word_; // lies beside those of others: see CallWords
};

// A connection that wants its lead passed on when a call is slow.
class SlowCallListener {
public:
  virtual ~SlowCallListener() = default;
  // The call has lasted one tick at least. On the detector's thread; must not block.
  virtual void on_slow_call(uint64_t call) = 0;
};

// Looks at `calls` from now on.
void watch(SlowCallListener *watched, const CallWord &calls);
// When it returns, the detector does not touch it any more.
void unwatch(SlowCallListener *watched);

} // namespace asyncnbd::connection
