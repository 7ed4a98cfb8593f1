// Which request is next, where those of many connections wait for one thread: each connection has
// its turn, so that who asks for little does not wait for what others have asked for.
#pragma once

#include <cstdint>
#include <vector>

namespace asyncnbd::backend {

// Of operations, which are small numbers, as connections are. Not thread-safe.
class FairQueue {
public:
  static constexpr uint32_t NONE = UINT32_MAX;

  // What a connection may take in a turn. For a request that is larger it saves up, while others
  // have their turns.
  static constexpr int64_t TURN_BYTES = 32 << 10;
  // What an operation costs besides its data.
  static constexpr int64_t OPERATION_BYTES = 4 << 10;

  void push(uint32_t connection, uint32_t operation, uint64_t data_bytes);
  uint32_t pop(); // NONE if there is none
  // When it is empty: gives back memory.
  void trim();

private:
  // A list of connections, by their places in flows_.
  struct Line {
    uint32_t first = NONE;
    uint32_t last = NONE;
  };
  // What waits of one connection, first in, first out.
  struct Flow {
    uint32_t first = NONE;
    uint32_t last = NONE;
    uint32_t next = NONE; // in its line
    bool is_in_line = false;
    int64_t credit_bytes = 0; // what it may take
  };
  struct Link {
    uint32_t next;
    int64_t cost_bytes;
  };

  void append(Line *line, uint32_t connection);
  void take_first(Line *line);

  std::vector<Flow> flows_; // by connection
  std::vector<Link> links_; // by operation
  Line fresh_;              // connections that had nothing waiting come first
  Line others_;
};

} // namespace asyncnbd::backend
