// The cow filter's state of a disk for all its clients: where each block is, the copied blocks, and
// requests that wait for each other or for a thread.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "backend/filter.hpp"
#include "store/block_map.hpp"
#include "store/block_work.hpp"
#include "store/temporary_file.hpp"

namespace asyncnbd::filters {

// Where a block's content is.
enum class CowState : unsigned { below = 0, copied = 1, zero = 2 };

struct CowDisk final : backend::DiskState {
  CowDisk(std::unique_ptr<store::TemporaryFile> temporary, uint64_t size_bytes,
          base::Threads &threads)
      : size_bytes(size_bytes), file(std::move(temporary)),
        work(std::make_shared<store::BlockWork>(threads)) {}

  uint64_t run(uint64_t first, uint64_t last, CowState *state) const {
    unsigned number;
    const uint64_t blocks = map.run(first, last, &number);
    *state = static_cast<CowState>(number);
    return blocks;
  }
  CowState state(uint64_t block) const { return static_cast<CowState>(map.get(block)); }
  [[nodiscard]] bool set(uint64_t first, uint64_t last, CowState state) {
    return map.set(first, last, static_cast<unsigned>(state));
  }

  const uint64_t size_bytes; // of the disk below: its last block is copied up to there
  store::BlockMap map;
  const std::unique_ptr<store::TemporaryFile> file; // blocks have the same offsets as on the disk
  const std::shared_ptr<store::BlockWork> work;
};

} // namespace asyncnbd::filters
