// Which request is next, where those of many connections wait for one thread: each connection gets
// as much as the others, and who asks for little does not wait for what others have asked for.
#pragma once

#include <cstdint>
#include <vector>

namespace asyncnbd::backend {

// Of operations, which are small numbers, as connections are. Not thread-safe.
//
// As if each connection had its own server, all equally fast, and slower the more of them are busy
// (worst-case fair weighted fair queueing, WF2Q+): next is, of the requests that would have begun
// there by now, the one that would end first. Rounds in which connections save up for large
// requests will not do: a thousand that start together have all saved enough at the same time.
class FairQueue {
public:
  static constexpr uint32_t NONE = UINT32_MAX;

  // What a connection gets at once, so that its replies leave together: 32 requests of 4 KiB.
  // Others wait for less than for one of the large requests that may come before theirs anyhow.
  static constexpr int64_t TURN_BYTES = 256 << 10;
  // What an operation costs besides its data.
  static constexpr int64_t OPERATION_BYTES = 4 << 10;

  void push(uint32_t connection, uint32_t operation, uint64_t data_bytes);
  uint32_t pop(); // NONE if there is none
  // When it is empty: gives back memory.
  void trim();

private:
  // What has been done for a connection, or for all divided by how many there are, in bytes.
  using Work = double;

  // What waits of one connection, first in, first out.
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
  // Of places, the least key first.
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
  Heap early_;              // those that would not have begun by now, by their begin
  Heap ready_;              // those that would, by their end
  Work now_ = 0;
  uint32_t busy_ = 0; // connections that have something waiting

  uint32_t turn_ = NONE;   // whose it is: one of them
  int64_t turn_bytes_ = 0; // what that has had in it
};

} // namespace asyncnbd::backend
