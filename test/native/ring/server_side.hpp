// The server's end of the shared memory: what is in it is the client's, and may be anything at any
// time, so each word is read once and checked; what the server goes by is its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "layout.hpp"

namespace ring {

class ServerSide {
public:
  // Memory that no client can make shorter, and an eventfd. nullptr: the system has none.
  static std::unique_ptr<ServerSide> make();
  ~ServerSide();
  ServerSide(const ServerSide &) = delete;
  ServerSide &operator=(const ServerSide &) = delete;

  int memory_fd() const { return memory_fd_; }
  int kick_fd() const { return kick_fd_; }

  // What a look at the ring finds. `nothing`, too, if the client has yet to consume completions:
  // for each request that is taken there is a place among those.
  enum class Look { request, nothing, broken };
  // One thread at a time.
  Look take(RequestEntry *entry);
  // Whether it is worth another look. By who takes.
  bool has_more() const;

  // One thread at a time. True: the client is to be woken.
  bool complete(const Completion &completion);

  // Of a range that is inside.
  uint8_t *data(uint64_t at) { return shared_->data.data() + at; }

private:
  ServerSide(int memory_fd, int kick_fd, Shared *shared)
      : memory_fd_(memory_fd), kick_fd_(kick_fd), shared_(shared) {}

  const int memory_fd_;
  const int kick_fd_;
  Shared *const shared_;
  uint32_t taken_ = 0; // by who takes
  // By who completes. Who takes loads it after `consumed`: of what an honest client has consumed,
  // it sees that it was completed.
  std::atomic<uint32_t> completed_{0};
};

} // namespace ring
