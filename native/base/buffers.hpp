// Memory for requests and replies: reference-counted buffers that one connection reuses. What a
// plugin may write into, no other ever sees.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/mutex.hpp"

namespace asyncnbd::base {

class BufferPool;

// Shared by pools, which it outlives: how much all of them keep for later.
struct FreeMemory {
  std::atomic<size_t> bytes{0}; // a count, pairs with nothing
};

// What a buffer may have in it, besides zeroes.
enum class Content : uint8_t {
  headers, // of replies
  own,     // data of the connection's own client
  foreign, // data of others: never again memory that a plugin is to fill
};

// Goes back to its pool when the last reference is dropped.
struct Buffer {
  uint8_t *data;
  size_t capacity_bytes;
  BufferPool *pool;
  Content content = Content::headers;
  Buffer *next_free = nullptr;
  std::atomic<uint32_t> references{1}; // see unref and is_exclusive

  void ref() { references.fetch_add(1, std::memory_order_relaxed); }
  void unref();
  // The acquire pairs with unref's release: what the others did with the memory is over.
  bool is_exclusive() const { return references.load(std::memory_order_acquire) == 1; }
};

// Thread-safe. Outlives its buffers. Memory comes zeroed from the system, so that a plugin that
// fills less than it says cannot show one client another client's data.
class BufferPool {
public:
  explicit BufferPool(FreeMemory &free_of_all) : free_of_all_(free_of_all) {}
  ~BufferPool();
  BufferPool(const BufferPool &) = delete;
  BufferPool &operator=(const BufferPool &) = delete;

  // A buffer of at least this size with one reference, and with no worse in it than `content`;
  // nullptr if memory is short.
  Buffer *get(size_t capacity_bytes, Content content = Content::own);

  // So many bytes of a buffer, in which others are besides if they are few; nullptr if memory is
  // short. Only for what this process makes itself: there may be anything in them.
  struct Piece {
    Buffer *buffer; // with a reference for it
    uint8_t *data;
  };
  Piece carve(size_t bytes);

  // Returns the memory of buffers that are not in use to the system.
  void trim();
  size_t free_bytes();

  // A buffer whose one reference the caller has, from another pool or from none.
  void adopt(Buffer &buffer) { buffer.pool = this; }
  // One that is in no pool.
  static void destroy(Buffer *buffer);

private:
  friend struct Buffer;
  void put(Buffer *buffer);

  FreeMemory &free_of_all_;

  base::Mutex<base::LockRank::carving> carving_; // guards these two
  Buffer *carved_ = nullptr;
  size_t carved_bytes_ = 0;

  base::Mutex<base::LockRank::buffers> mutex_; // guards the rest
  Buffer *free_ = nullptr;
  size_t free_bytes_ = 0;
};

} // namespace asyncnbd::base
