// Keeps blocks that clients read and write in a temporary file; written data reaches the disk below
// when they flush, or at once.
#include <bit>
#include <utility>

#include "filters/cache_disk.hpp"
#include "filters/cache_layer.hpp"
#include "filters/registry.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::DiskState;

class CacheFilter final : public backend::Filter {
public:
  CacheFilter(CacheSettings settings, std::string directory, const backend::Resources &resources)
      : settings_(std::move(settings)), directory_(std::move(directory)), resources_(resources) {}

  const char *name() const override { return "cache"; }
  bool keeps_state() const override { return true; }

  std::unique_ptr<DiskState> new_disk(const backend::Facts &below, std::string *error) override {
    std::unique_ptr<store::TemporaryFile> file =
        store::TemporaryFile::make(directory_, resources_.page_pipes, resources_.clock, error);
    if (!file)
      return nullptr;
    // The file's space is given back in blocks of this size.
    const uint64_t least_bytes = std::min(std::bit_ceil(file->block_bytes()), Blocks::MAX_BYTES);
    const Blocks blocks{std::max(settings_.block_bytes, least_bytes), below.size_bytes};
    return std::make_unique<CacheDisk>(std::move(file), blocks, settings_, resources_.threads);
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                DiskState *disk, std::string *error) override {
    auto &shared = static_cast<CacheDisk &>(*disk);
    if (!is_same_size("cache", shared.blocks.size_bytes, (*below)->facts().size_bytes, error))
      return nullptr;
    return std::make_unique<CacheLayer>(std::move(*below), opening.context, settings_, shared);
  }

private:
  const CacheSettings settings_;
  const std::string directory_; // for temporary files
  const backend::Resources resources_;
};

bool is_mode(const std::string &text, CacheMode *mode, std::string *error) {
  *mode = text == "writethrough" ? CacheMode::writethrough
          : text == "unsafe"     ? CacheMode::unsafe
                                 : CacheMode::writeback;
  if (*mode != CacheMode::writeback || text == "writeback")
    return true;
  *error = "filter cache: option mode: expected writeback, writethrough or unsafe";
  return false;
}

// Options: mode, "writeback", "writethrough" or "unsafe"; blockBytes, a power of two from 4096 on;
// maxBytes, for all blocks together, 0: no limit; highPercent and lowPercent of it, where dropping
// of blocks begins and ends; onRead: blocks that are read are kept too; onReadPath: only while a
// file of this name exists. nullptr, with a message in `*error`, for an unknown option or an
// invalid value.
std::unique_ptr<backend::Filter>
make_cache(const FilterOptions &options, const backend::Resources &resources, std::string *error) {
  constexpr uint64_t MAX_BYTES = uint64_t{1} << 53;
  constexpr uint64_t MAX_PERCENT = 10'000;
  constexpr uint64_t DEFAULT_HIGH_PERCENT = 95;
  constexpr uint64_t DEFAULT_LOW_PERCENT = 80;
  OptionReader reader("cache", options);
  CacheSettings settings;
  const std::string mode = reader.text("mode");
  settings.block_bytes = reader.number("blockBytes", Blocks::DEFAULT_BYTES, Blocks::MAX_BYTES);
  settings.max_bytes = reader.number("maxBytes", 0, MAX_BYTES);
  settings.high_percent = reader.number("highPercent", DEFAULT_HIGH_PERCENT, MAX_PERCENT);
  settings.low_percent = reader.number("lowPercent", DEFAULT_LOW_PERCENT, MAX_PERCENT);
  settings.on_read = KeepsReads::of(reader);
  *error = reader.error();
  if (!error->empty() || !is_mode(mode, &settings.mode, error) ||
      !is_block_size("cache", settings.block_bytes, error))
    return nullptr;
  std::string directory = store::TemporaryFile::directory(error);
  if (directory.empty())
    return nullptr;
  return std::make_unique<CacheFilter>(std::move(settings), std::move(directory), resources);
}

const Registered registered_cache("cache", make_cache);

} // namespace

} // namespace asyncnbd::filters
