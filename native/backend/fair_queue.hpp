// Chooses the next of many connections' requests for one thread: each connection gets an equal
// share, and one that asks for little does not wait for everything that others have asked for.
#pragma once

#include <cstdint>
#include <vector>

namespace asyncnbd::backend {

// Operations and connections are small numbers. Not thread-safe. The order is as if each connection
// had its own server, all equally fast, and slower the more of them are busy (worst-case fair
// weighted fair queueing, WF2Q+): of the requests that would have begun there by now, the next is
// the one that would end first. Rounds in which connections save credit for large requests do not
// work: a thousand that start together have all saved enough at the same time.
class FairQueue {
public:
  static constexpr uint32_t NONE = UINT32_MAX;

  // How much a connection gets in one turn, so that its replies leave together: 32 requests of 4
  // KiB. Others wait less than for one large request, which may come before theirs anyway.
  static constexpr int64_t TURN_BYTES = 256 << 10;
  // What an operation costs in addition to its data.
  static constexpr int64_t OPERATION_BYTES = 4 << 10;

  void push(uint32_t connection, uint32_t operation, uint64_t data_bytes);
  uint32_t pop(); // NONE if empty
  // Gives back memory if it is empty.
  void trim();

private:
  // Work done in bytes, for a connection, or for all divided by their number.
  using Work = double;

  // The waiting operations of one connection, first in, first out.
  struct Flow {
    uint32_t first = NONE;
    uint32_t last = NONE;
    Work begin = 0; // when its own server would begin the first
  };
  struct Link {
    uint32_t next;
    int64_t cost_bytes;
  };
  struct Place {
    Work key;
    uint32_t connection;
  };
  // A heap of flows, the least key first.
  class Heap {
  public:
    bool is_empty() const { return places_.empty(); }
    const Place &first() const { return places_.front(); }
    void push(const Place &place);
    Place pop();

  private:
    std::vector<Place> places_;
  };

  void join(uint32_t connection);
  void make_ready(uint32_t connection);
  bool choose();
  void begin_turn(uint32_t connection);

  std::vector<Flow> flows_; // by connection
  std::vector<Link> links_; // by operation
  Heap early_;              // flows that would not have begun yet, by their begin
  Heap ready_;              // flows that would have begun, by their end
  Work now_ = 0;
  uint32_t busy_ = 0; // connections with waiting operations

  uint32_t turn_ = NONE;   // the connection whose turn it is
  int64_t turn_bytes_ = 0; // what it has had in this turn
};

} // namespace asyncnbd::backend
