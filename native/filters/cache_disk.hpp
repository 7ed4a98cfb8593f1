// What the cache filter keeps of a disk for all its clients: the state of each block, those that
// are kept, and which of them have to go when there are too many.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "backend/filter.hpp"
#include "base/mutex.hpp"
#include "filters/blocks.hpp"
#include "store/block_map.hpp"
#include "store/block_work.hpp"
#include "store/temporary_file.hpp"

namespace asyncnbd::filters {

enum class CacheMode : uint8_t { writeback, writethrough, unsafe };

struct CacheSettings {
  CacheMode mode;
  uint64_t block_bytes;
  uint64_t max_bytes; // 0: no limit
  uint64_t high_percent;
  uint64_t low_percent;
  KeepsReads on_read;
};

// Of a block that is kept: the same as below, or not yet written there, or what was there when its
// writing back has begun is being written, or has been and is not known to be durable. Who writes
// to the file without a claim says `dirty` after it, and who writes back says `writing` before he
// reads: so no change is taken for written back. Of a block that is `writing`, and on which nobody
// has a claim, a flush has written what its own flush below is to make durable; where that has
// failed, it stays `writing`, and the next one writes it again.
enum class CacheState : unsigned { below = 0, clean = 1, dirty = 2, writing = 3 };

constexpr unsigned set_of(CacheState state) {
  return 1u << static_cast<unsigned>(state);
}

// What the disk below does not have yet, or may lose.
constexpr unsigned UNWRITTEN = set_of(CacheState::dirty) | set_of(CacheState::writing);

// How many blocks there may be, and which have not been used for long. Any thread.
class CacheRoom {
public:
  CacheRoom(const CacheSettings &settings, const Blocks &blocks);

  bool is_limited() const { return max_blocks_ != UINT64_MAX; }
  void add(uint64_t blocks) { kept_.fetch_add(blocks, std::memory_order_relaxed); }
  void remove(uint64_t blocks) { kept_.fetch_sub(blocks, std::memory_order_relaxed); }
  // Whether blocks should go, if there are to be so many more: from the high threshold on, until
  // there are less than the low one.
  bool is_short(uint64_t more_blocks);
  // As it has said last.
  bool is_reclaiming() const { return is_reclaiming_.load(std::memory_order_relaxed); }
  // Whether there would be more than there may be.
  bool is_full(uint64_t more_blocks) const;

  void touch(uint64_t first, uint64_t last);
  // A block that has not been touched since this was last asked about it.
  std::optional<uint64_t> find_unused(const store::BlockMap &states);

private:
  const uint64_t last_block_;
  const uint64_t max_blocks_;
  const uint64_t high_blocks_;
  const uint64_t low_blocks_;
  // An estimate while requests are in progress; pairs with nothing, as does the next.
  std::atomic<uint64_t> kept_{0};
  std::atomic<bool> is_reclaiming_{false};
  store::BlockMap touched_;                       // state 1; what has no memory counts as unused
  base::Mutex<base::LockRank::cache_room> mutex_; // guards what follows
  uint64_t hand_ = 0;                             // where to look next
};

class CacheDisk final : public backend::DiskState {
public:
  CacheDisk(std::unique_ptr<store::TemporaryFile> temporary, const Blocks &of_disk,
            const CacheSettings &settings, base::Threads &threads)
      : blocks(of_disk), file(std::move(temporary)),
        work(std::make_shared<store::BlockWork>(threads)),
        flush_turns(std::make_shared<store::BlockWork>(threads)), room(settings, of_disk) {}

  uint64_t last_block() const { return blocks.block_of(blocks.size_bytes - 1); }
  CacheState state(uint64_t block) const { return static_cast<CacheState>(map_.get(block)); }
  uint64_t run(uint64_t first, uint64_t last, CacheState *state) const;
  // Of `states`, a union of set_of.
  std::optional<uint64_t> find(uint64_t first, uint64_t last, unsigned states) const {
    return map_.find(first, last, states);
  }
  // How many are not kept.
  uint64_t count_below(uint64_t first, uint64_t last) const;

  // What follows takes a claim on the blocks. False: there is no memory.
  [[nodiscard]] bool keep(uint64_t first, uint64_t last, CacheState state);
  // From `dirty`.
  [[nodiscard]] bool begin_writing(uint64_t first, uint64_t last);
  // Of what is still `writing`: it is below, or it is not.
  void end_writing(uint64_t first, uint64_t last, bool is_written);
  // A clean one.
  void drop(uint64_t block);
  std::optional<uint64_t> find_unused() { return room.find_unused(map_); }

  // Needs none for blocks that are kept, where none are dropped: they are dirty then. An errno.
  int write(const uint8_t *data, transport::PagePipe::Owner pages, uint64_t length_bytes,
            uint64_t offset);
  // The same, of blocks that are all kept: quicker if they were written a moment ago.
  int overwrite(const uint8_t *data, transport::PagePipe::Owner pages, uint64_t length_bytes,
                uint64_t offset);
  int write_zeroes(uint64_t length_bytes, uint64_t offset);

  // What is read without a claim is right only if nothing has been dropped meanwhile.
  class Reading {
  public:
    explicit Reading(const CacheDisk &disk)
        : disk_(disk), dropped_(disk.dropped_.load(std::memory_order_acquire)) {}
    // Adds nothing: what has been read before stays before it, which a load alone would not do.
    bool was_undisturbed() const {
      return disk_.dropping_.fetch_add(0, std::memory_order_acq_rel) == dropped_;
    }

  private:
    const CacheDisk &disk_;
    const uint64_t dropped_;
  };

  const Blocks blocks;
  const std::unique_ptr<store::TemporaryFile> file; // blocks are where they are on the disk
  const std::shared_ptr<store::BlockWork> work;
  // Flushes that write back, one after the other: all have the same claim.
  const std::shared_ptr<store::BlockWork> flush_turns;
  CacheRoom room;

private:
  int note_change(int error, uint64_t length_bytes, uint64_t offset);

  store::BlockMap map_;
  // How many drops have begun, and how many are over: see Reading.
  mutable std::atomic<uint64_t> dropping_{0};
  std::atomic<uint64_t> dropped_{0};
};

} // namespace asyncnbd::filters
