// See blocks.hpp.
#include "filters/blocks.hpp"

#include <unistd.h>

namespace asyncnbd::filters {

KeepsReads KeepsReads::of(OptionReader &reader) {
  return {reader.boolean("onRead", false), reader.text("onReadPath")};
}

bool KeepsReads::is_now() const {
  return always || (!path.empty() && access(path.c_str(), F_OK) == 0);
}

int read_file(store::TemporaryFile &file, backend::Request &request, bool may_be_pages) {
  if (may_be_pages && request.may_answer_in_pages) {
    request.pages = file.read_pages(request.length_bytes, request.offset);
    if (request.pages) {
      request.answer.kind = backend::Answer::Kind::pages;
      return 0;
    }
  }
  return file.read(request.data, request.length_bytes, request.offset);
}

void prefer_whole_blocks(backend::Facts *facts, uint64_t block_bytes) {
  constexpr uint64_t MAX_PREFERRED_BYTES = 32 << 20; // "Block size constraints"
  const auto preferred = static_cast<uint32_t>(std::min(block_bytes, MAX_PREFERRED_BYTES));
  std::optional<backend::BlockSizes> &sizes = facts->block_sizes;
  if (!sizes)
    return;
  if (sizes->minimum == 0)
    *sizes = {1, preferred, UINT32_MAX};
  else if (sizes->maximum >= preferred)
    sizes->preferred = std::max(sizes->preferred, preferred);
}

bool is_same_size(const char *filter, uint64_t had_bytes, uint64_t has_bytes, std::string *error) {
  if (had_bytes == has_bytes)
    return true;
  *error = std::string("filter ") + filter + ": the disk had " + std::to_string(had_bytes) +
           " bytes when a client first opened it, and now has " + std::to_string(has_bytes) +
           "; restart the server, or, if these are different disks, have the plugin list them as "
           "exports";
  return false;
}

bool is_block_size(const char *filter, uint64_t bytes, std::string *error) {
  if (bytes >= Blocks::MIN_BYTES && (bytes & (bytes - 1)) == 0)
    return true;
  *error =
      std::string("filter ") + filter + ": the block size must be a power of two, 4096 or more";
  return false;
}

} // namespace asyncnbd::filters
