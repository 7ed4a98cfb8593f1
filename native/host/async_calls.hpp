// Calls of a plugin's asynchronous callbacks: the id of each until the plugin replies, and how a
// reply finds its call, even a late, double or invented one.
#pragma once

#include <cstdint>

#include "host/call_table.hpp"

namespace asyncnbd::host {

// The arguments of an nbdkit_async_reply function.
struct AsyncReply {
  int error = 0; // 0 or an errno
  // A read's data; nullptr and 0 for other replies.
  const uint8_t *data = nullptr;
  uint32_t length_bytes = 0;
  // If set, the data does not change until this has been called; otherwise until the function
  // returns.
  void (*release)(void *opaque) = nullptr;
  void *opaque = nullptr;
};

// One call at a time, any number one after the other.
class AsyncCall {
public:
  AsyncCall();
  AsyncCall(const AsyncCall &) = delete;
  AsyncCall &operator=(const AsyncCall &) = delete;

  // False: there are more objects than ids, or no memory. Then it must not be used.
  bool is_usable() const { return record_ != nullptr; }

  // A call begins. Returns the id by which, together with `conn`, the plugin will reply.
  uint64_t begin(const void *conn);

  // The call with this id has failed at once. False if the plugin has replied to it anyway: then
  // the object may be gone.
  static bool fail(uint64_t id);

  // Nobody waits for the reply any more. False if there is nothing to wait for. From now on only
  // on_late_reply can follow.
  bool give_up();

  // For the exported functions: returns 0, or the errno to fail with.
  static int reply(const void *conn, uint64_t id, const AsyncReply &reply);

protected:
  // No call may be in flight, or given up without a late reply.
  ~AsyncCall();

private:
  // Called exactly once for each call that has not failed or been given up, on the plugin's thread.
  // Returns 0, or the errno for the plugin. The call is over: begin may be called, and the object
  // destroyed, before this returns.
  virtual int on_reply(const AsyncReply &reply) = 0;
  virtual void on_late_reply() = 0;

  CallRecord *const record_;
};

} // namespace asyncnbd::host
