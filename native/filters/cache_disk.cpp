// See cache_disk.hpp.
#include "filters/cache_disk.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace asyncnbd::filters {

namespace {

constexpr unsigned number(CacheState state) {
  return static_cast<unsigned>(state);
}

uint64_t blocks_at(const CacheSettings &settings, uint64_t percent, uint64_t block_bytes) {
  if (settings.max_bytes == 0)
    return UINT64_MAX;
  return std::max<uint64_t>(settings.max_bytes / 100 * percent / block_bytes, 1);
}

} // namespace

// ---- room ------------------------------------------------------------------------------------

CacheRoom::CacheRoom(const CacheSettings &settings, const Blocks &blocks)
    : last_block_(blocks.block_of(blocks.size_bytes - 1)),
      max_blocks_(
          blocks_at(settings, std::max<uint64_t>(settings.high_percent, 100), blocks.block_bytes)),
      high_blocks_(blocks_at(settings, settings.high_percent, blocks.block_bytes)),
      low_blocks_(blocks_at(settings, settings.low_percent, blocks.block_bytes)) {}

bool CacheRoom::is_short(uint64_t more_blocks) {
  const uint64_t blocks = kept_.load(std::memory_order_relaxed) + more_blocks;
  if (blocks >= high_blocks_)
    is_reclaiming_.store(true, std::memory_order_relaxed);
  else if (blocks < low_blocks_)
    is_reclaiming_.store(false, std::memory_order_relaxed);
  return is_reclaiming_.load(std::memory_order_relaxed);
}

bool CacheRoom::is_full(uint64_t more_blocks) const {
  return kept_.load(std::memory_order_relaxed) + more_blocks > max_blocks_;
}

void CacheRoom::touch(uint64_t first, uint64_t last) {
  unsigned touched;
  if (is_limited() && (touched_.run(first, last, &touched) <= last - first || touched == 0))
    (void)touched_.set(first, last, 1);
}

// Goes round all blocks like the hand of a clock: at its second visit, an unused block is
// untouched.
std::optional<uint64_t> CacheRoom::find_unused(const store::BlockMap &states) {
  constexpr unsigned KEPT = set_of(CacheState::clean) | UNWRITTEN;
  std::lock_guard lock(mutex_);
  for (unsigned rounds = 0; rounds < 3;) {
    const std::optional<uint64_t> found = states.find(hand_, last_block_, KEPT);
    if (!found) {
      hand_ = 0;
      rounds++;
      continue;
    }
    hand_ = *found + 1;
    if (touched_.get(*found) == 0)
      return found;
    (void)touched_.replace(*found, *found, 1u << 1, 0);
  }
  return std::nullopt;
}

// ---- the disk --------------------------------------------------------------------------------

uint64_t CacheDisk::run(uint64_t first, uint64_t last, CacheState *state) const {
  unsigned number;
  const uint64_t blocks = map_.run(first, last, &number);
  *state = static_cast<CacheState>(number);
  return blocks;
}

uint64_t CacheDisk::count_below(uint64_t first, uint64_t last) const {
  uint64_t count = 0;
  for (uint64_t block = first; block <= last;) {
    CacheState state;
    const uint64_t blocks = run(block, last, &state);
    count += state == CacheState::below ? blocks : 0;
    block += blocks;
  }
  return count;
}

bool CacheDisk::keep(uint64_t first, uint64_t last, CacheState state) {
  const uint64_t before = count_below(first, last);
  const bool is_all = map_.set(first, last, number(state));
  room.add(before - count_below(first, last));
  return is_all;
}

bool CacheDisk::begin_writing(uint64_t first, uint64_t last) {
  return map_.replace(first, last, set_of(CacheState::dirty), number(CacheState::writing));
}

// Cannot run out of memory, because they were `dirty` before.
void CacheDisk::end_writing(uint64_t first, uint64_t last, bool is_written) {
  (void)map_.replace(first, last, set_of(CacheState::writing),
                     number(is_written ? CacheState::clean : CacheState::dirty));
}

void CacheDisk::drop(uint64_t block) {
  dropping_.fetch_add(1, std::memory_order_seq_cst);
  (void)map_.replace(block, block, set_of(CacheState::clean), number(CacheState::below));
  file->discard(blocks.block_bytes, blocks.begin_of(block));
  dropped_.fetch_add(1, std::memory_order_release);
  room.remove(1);
}

int CacheDisk::write(const uint8_t *data, transport::PagePipe::Owner pages, uint64_t length_bytes,
                     uint64_t offset) {
  const int error = pages ? file->write_pages(std::move(pages), length_bytes, offset)
                          : file->write(data, length_bytes, offset);
  return note_change(error, length_bytes, offset);
}

int CacheDisk::overwrite(const uint8_t *data, transport::PagePipe::Owner pages,
                         uint64_t length_bytes, uint64_t offset) {
  const int error = pages ? file->overwrite_pages(std::move(pages), length_bytes, offset)
                          : file->overwrite(data, length_bytes, offset);
  return note_change(error, length_bytes, offset);
}

int CacheDisk::write_zeroes(uint64_t length_bytes, uint64_t offset) {
  return note_change(file->write_zeroes(length_bytes, offset), length_bytes, offset);
}

// A failed change may have been made in part: such a block must not count as clean.
int CacheDisk::note_change(int error, uint64_t length_bytes, uint64_t offset) {
  constexpr unsigned KEPT =
      set_of(CacheState::clean) | set_of(CacheState::writing) | set_of(CacheState::dirty);
  const uint64_t first = blocks.block_of(offset);
  const uint64_t last = blocks.block_of(offset + length_bytes - 1);
  const bool is_noted = map_.replace(first, last, KEPT, number(CacheState::dirty));
  return error != 0 || is_noted ? error : ENOMEM;
}

} // namespace asyncnbd::filters
