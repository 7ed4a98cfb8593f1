// The blocks that a filter keeps of a disk.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "backend/backend.hpp"
#include "filters/options.hpp"
#include "store/temporary_file.hpp"

namespace asyncnbd::filters {

struct Blocks {
  static constexpr uint64_t DEFAULT_BYTES = 64 << 10;
  static constexpr uint64_t MIN_BYTES = 4096;
  static constexpr uint64_t MAX_BYTES = 64 << 20; // the longest request

  uint64_t block_bytes; // a power of two
  uint64_t size_bytes;  // of the disk

  uint64_t block_of(uint64_t offset) const { return offset / block_bytes; }
  uint64_t begin_of(uint64_t block) const { return block * block_bytes; }
  // The last block of the disk may be shorter.
  uint64_t end_of(uint64_t block) const { return std::min(begin_of(block + 1), size_bytes); }
};

// Whether a filter keeps blocks that are read: always, never, or while a file exists.
struct KeepsReads {
  bool always;
  std::string path; // the file; "": none

  // From the options onRead and onReadPath.
  static KeepsReads of(OptionReader &reader);
  bool may_be() const { return always || !path.empty(); }
  bool is_now() const;
};

// Answers a read from the file: with pages if allowed, else with a copy. Returns 0 or an errno.
int read_file(store::TemporaryFile &file, backend::Request &request, bool may_be_pages);

// Makes whole blocks the preferred size: blocks that are written as a whole need not be fetched.
void prefer_whole_blocks(backend::Facts *facts, uint64_t block_bytes);

// Whether a disk still has the size, `had_bytes`, that it had when the filter began to keep its
// blocks. False: `*error` has a message.
bool is_same_size(const char *filter, uint64_t had_bytes, uint64_t has_bytes, std::string *error);

// The same for the block size that a user has chosen.
bool is_block_size(const char *filter, uint64_t bytes, std::string *error);

} // namespace asyncnbd::filters
