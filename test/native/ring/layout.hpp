// The memory that a server of the ring and one client share, and what they say on their socket
// before there is any.
//
// The client puts requests into one ring, the server completions into another. Each index only
// grows, and wraps at 2^32; a place in a ring is the index modulo ENTRIES. The client kicks by the
// eventfd whenever it has changed one of its indices. The server wakes it by a byte on the socket,
// not by an eventfd: whether that blocks who writes is a flag that both ends of it share.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace ring {

constexpr uint32_t ENTRIES = 64;
constexpr uint64_t DATA_BYTES = 4 << 20;

struct RequestEntry {
  uint64_t id; // the client's; comes back with the completion
  uint64_t offset;
  uint64_t length_bytes;
  uint64_t data_at;    // in Shared::data: of a read, a write, and a block status's answer
  uint32_t data_bytes; // there; of a read or write, its length
  uint16_t type;       // NBD_CMD_*
  uint16_t flags;      // NBD_CMD_FLAG_*
};

struct Completion {
  uint64_t id;
  uint32_t error; // 0 or an errno
  uint32_t count; // of the extents in a block status's answer
};

// What a block status's answer consists of.
struct ExtentEntry {
  uint64_t length_bytes;
  uint64_t flags; // NBD_STATE_*
};

// A value in memory that the other process may write at any time: loaded and stored once, word by
// word, so that what has been checked is what is used.
template <typename Value> class Volatile {
public:
  Value load() const {
    Words words;
    for (size_t i = 0; i < words.size(); i++)
      words[i] = words_[i].load(std::memory_order_relaxed);
    return std::bit_cast<Value>(words);
  }
  void store(const Value &value) {
    const auto words = std::bit_cast<Words>(value);
    for (size_t i = 0; i < words.size(); i++)
      words_[i].store(words[i], std::memory_order_relaxed);
  }

private:
  using Words = std::array<uint64_t, sizeof(Value) / sizeof(uint64_t)>;
  std::array<std::atomic<uint64_t>, std::tuple_size_v<Words>> words_;
};

// All zero at first. An index is stored with release, or more, after what it says is there, and
// loaded with acquire before that is looked at.
struct Shared {
  // The client's.
  alignas(64) std::atomic<uint32_t> submitted;
  std::atomic<uint32_t> consumed; // completions that it has seen
  // Not 0: it waits on its socket. It is set before a last look at `completed`, which the server
  // stores before it looks here: all four sequentially consistent, so that one sees the other.
  std::atomic<uint32_t> sleeps;
  // The server's.
  alignas(64) std::atomic<uint32_t> completed;

  alignas(64) std::array<Volatile<RequestEntry>, ENTRIES> requests;
  std::array<Volatile<Completion>, ENTRIES> completions;
  alignas(4096) std::array<uint8_t, DATA_BYTES> data;
};

// The client's first and only words on the socket.
struct Hello {
  char export_name[64]; // ends with a zero, or at the end
  uint32_t is_readonly;
};

// The server's answer. If `error` is 0, the memory and the eventfd come with it.
struct Welcome {
  uint32_t error;
  uint32_t offers; // bits 1 << NBD_CMD_*, and these two
  uint64_t size_bytes;

  static constexpr uint32_t FUA = 1 << 16;
  static constexpr uint32_t FAST_ZERO = 1 << 17;
};

} // namespace ring
