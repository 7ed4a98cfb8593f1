// Calls of a plugin's asynchronous callbacks: how each is known to the plugin until it replies,
// and how a reply finds it, even one that is late, double or made up.
#pragma once

#include <cstdint>

#include "host/call_table.hpp"

namespace asyncnbd::host {

// What one of the nbdkit_async_reply functions was given.
struct AsyncReply {
  int error = 0; // 0 or an errno
  // A read's data; of the other functions' replies, nullptr and 0.
  const uint8_t *data = nullptr;
  uint32_t length_bytes = 0;
  // If set, the data stays as it is until this has been called; else until the function returns.
  void (*release)(void *opaque) = nullptr;
  void *opaque = nullptr;
};

// One call at a time, any number one after the other.
class AsyncCall {
public:
  AsyncCall();
  AsyncCall(const AsyncCall &) = delete;
  AsyncCall &operator=(const AsyncCall &) = delete;

  // False if there are too many objects for ids to tell apart, or no memory for it: do not use it.
  bool is_usable() const { return record_ != nullptr; }

  // A call begins. Returns the id by which, together with `conn`, the plugin will reply.
  uint64_t begin(const void *conn);

  // The call of this id has failed at once. False if the plugin has replied to it all the same:
  // then the object may be gone.
  static bool fail(uint64_t id);

  // Nobody waits for the reply any more. False if there is nothing to wait for. From
  // now on the only thing that can come of the call is on_late_reply.
  bool give_up();

  // The exported functions: 0, or the errno to fail with.
  static int reply(const void *conn, uint64_t id, const AsyncReply &reply);

protected:
  // When no call is in flight, nor given up without a late reply.
  ~AsyncCall();

private:
  // Exactly once for each call that was not failed or given up, on the plugin's thread. Returns
  // 0, or the errno for the plugin. The call is over: begin may come before this returns, and the
  // end of the object.
  virtual int on_reply(const AsyncReply &reply) = 0;
  virtual void on_late_reply() = 0;

  CallRecord *const record_;
};

} // namespace asyncnbd::host
