// Who may read a connection's requests, and a watcher that notices when whoever does is stuck in
// a call of the plugin.
#pragma once

#include <atomic>
#include <cstdint>

namespace asyncnbd::connection {

// Who may read a connection's requests. The thread that leads it marks its calls into a plugin;
// while a call lasts, another thread may take the lead, which the first one finds out when its
// call ends. Between calls the lead cannot be taken.
class Baton {
public:
  // Leader only. Returns the call's number for end_call.
  uint64_t begin_call();
  // False: the lead was taken meanwhile.
  bool end_call(uint64_t call);

  // The call in progress, 0 if there is none.
  uint64_t current_call() const;
  // Any thread, for a call seen by current_call. True: the caller leads now.
  bool take(uint64_t call);

private:
  // Twice the number of calls so far, plus one during a call.
  std::atomic<uint64_t> word_{2};
};

// A connection that wants its lead passed on when a call is slow.
class Watched {
public:
  virtual ~Watched() = default;
  virtual uint64_t current_call() const = 0;
  // The call has lasted one tick at least. On the watcher's thread; must not block.
  virtual void on_stuck(uint64_t call) = 0;
};

void watch(Watched *watched);
// When it returns, the watcher does not touch it any more.
void unwatch(Watched *watched);

} // namespace asyncnbd::connection
