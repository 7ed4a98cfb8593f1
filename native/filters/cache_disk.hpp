// The cache filter's state of a disk for all its clients: the state of each block, the kept blocks,
// and which of them to drop when there are too many.
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

// A kept block is `clean` (the same as below), `dirty` (not yet written there), or `writing`: its
// content at the beginning of the write-back is being written, or has been written and is not known
// to be durable. A write to the file without a claim sets `dirty` afterwards, and a write-back sets
// `writing` before it reads: so no change counts as written back. A block that is `writing` without
// a claim has been written by a flush whose own flush below will make it durable. If that fails, it
// stays `writing`, and the next flush writes it again.
enum class CacheState : unsigned { below = 0, clean = 1, dirty = 2, writing = 3 };

constexpr unsigned set_of(CacheState state) {
  return 1u << static_cast<unsigned>(state);
}

// Blocks that the disk below does not have yet, or may lose.
constexpr unsigned UNWRITTEN = set_of(CacheState::dirty) | set_of(CacheState::writing);

// Limits the number of blocks, and finds those that have not been used for long. Any thread.
class CacheRoom {
public:
  CacheRoom(const CacheSettings &settings, const Blocks &blocks);

  bool is_limited() const { return max_blocks_ != UINT64_MAX; }
  void add(uint64_t blocks) { kept_.fetch_add(blocks, std::memory_order_relaxed); }
  void remove(uint64_t blocks) { kept_.fetch_sub(blocks, std::memory_order_relaxed); }
  // Whether to drop blocks, if `more_blocks` are added: from the high threshold on, until there are
  // fewer than the low one.
  bool is_short(uint64_t more_blocks);
  // The last answer of is_short.
  bool is_reclaiming() const { return is_reclaiming_.load(std::memory_order_relaxed); }
  // Whether `more_blocks` would exceed the limit.
  bool is_full(uint64_t more_blocks) const;

  void touch(uint64_t first, uint64_t last);
  // A block that has not been touched since the last search came by.
  std::optional<uint64_t> find_unused(const store::BlockMap &states);

private:
  const uint64_t last_block_;
  const uint64_t max_blocks_;
  const uint64_t high_blocks_;
  const uint64_t low_blocks_;
  // An estimate while requests are in progress; pairs with nothing, nor does the next.
  std::atomic<uint64_t> kept_{0};
  std::atomic<bool> is_reclaiming_{false};
  store::BlockMap touched_; // state 1; blocks that find no memory count as unused
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
  // Finds a block in one of `states`, a union of set_of.
  std::optional<uint64_t> find(uint64_t first, uint64_t last, unsigned states) const {
    return map_.find(first, last, states);
  }
  // The number of blocks that are not kept.
  uint64_t count_below(uint64_t first, uint64_t last) const;

  // The following need a claim on the blocks. False: no memory.
  [[nodiscard]] bool keep(uint64_t first, uint64_t last, CacheState state);
  // `dirty` blocks become `writing`.
  [[nodiscard]] bool begin_writing(uint64_t first, uint64_t last);
  // Blocks that are still `writing` become `clean` if they were written below, otherwise `dirty`.
  void end_writing(uint64_t first, uint64_t last, bool is_written);
  // Drops a clean block.
  void drop(uint64_t block);
  std::optional<uint64_t> find_unused() { return room.find_unused(map_); }

  // Needs no claim for kept blocks if none are dropped. The blocks become dirty. Returns 0 or an
  // errno.
  int write(const uint8_t *data, transport::PagePipe::Owner pages, uint64_t length_bytes,
            uint64_t offset);
  // The same for blocks that are all kept: quicker if they were written a moment ago.
  int overwrite(const uint8_t *data, transport::PagePipe::Owner pages, uint64_t length_bytes,
                uint64_t offset);
  int write_zeroes(uint64_t length_bytes, uint64_t offset);

  // Data that is read without a claim is only valid if nothing was dropped meanwhile.
  class Reading {
  public:
    explicit Reading(const CacheDisk &disk)
        : disk_(disk), dropped_(disk.dropped_.load(std::memory_order_acquire)) {}
    // Adds 0: unlike a load, this keeps earlier reads before it.
    bool was_undisturbed() const {
      return disk_.dropping_.fetch_add(0, std::memory_order_acq_rel) == dropped_;
    }

  private:
    const CacheDisk &disk_;
    const uint64_t dropped_;
  };

  const Blocks blocks;
  const std::unique_ptr<store::TemporaryFile> file; // blocks have the same offsets as on the disk
  const std::shared_ptr<store::BlockWork> work;
  // Flushes that write back run one after the other: all use the same claim.
  const std::shared_ptr<store::BlockWork> flush_turns;
  CacheRoom room;

private:
  int note_change(int error, uint64_t length_bytes, uint64_t offset);

  store::BlockMap map_;
  // The numbers of drops that have begun and ended: see Reading.
  mutable std::atomic<uint64_t> dropping_{0};
  std::atomic<uint64_t> dropped_{0};
};

} // namespace asyncnbd::filters
