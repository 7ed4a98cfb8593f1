// Lets clients send requests of any size to a plugin that takes only whole blocks, or only short
// requests.
#include <utility>

#include "filters/blocksize_layer.hpp"
#include "filters/registry.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::DiskState;

class BlocksizeFilter final : public backend::Filter {
public:
  BlocksizeFilter(const BlocksizeSettings &settings, base::Threads &threads)
      : settings_(settings), threads_(threads) {}

  const char *name() const override { return "blocksize"; }
  bool keeps_state() const override { return true; }

  backend::Wanted wanted_of_below(const backend::Wanted &wanted) const override {
    return {wanted.description, true};
  }

  std::unique_ptr<DiskState> new_disk(const backend::Facts &, std::string *) override {
    return std::make_unique<BlocksizeDisk>(threads_);
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                DiskState *disk, std::string *) override {
    auto &shared = static_cast<BlocksizeDisk &>(*disk);
    return emulated(std::make_unique<BlocksizeLayer>(std::move(*below), settings_, shared),
                    threads_);
  }

private:
  const BlocksizeSettings settings_;
  base::Threads &threads_;
};

// 0: not given.
uint64_t size_of(OptionReader &reader, const char *name, uint64_t most, uint64_t min_block) {
  const std::optional<uint64_t> size = reader.optional_number(name, most);
  if (size == 0u)
    reader.complain(name, "at least 1 byte");
  else if (size && min_block > 0 && (*size & (min_block - 1)) != 0)
    reader.complain(name, "a multiple of minBlock");
  return size.value_or(0);
}

// Options, in bytes: minBlock, the block size of requests to the plugin, a power of two up to 64
// KiB; maxData, the longest read, write or cache request; maxLength, the longest trim or zeroing.
// The plugin's own block sizes are the defaults. nullptr, with a message in `*error`, for an
// unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_blocksize(const FilterOptions &options,
                                                const backend::Resources &resources,
                                                std::string *error) {
  constexpr uint64_t MAX_MIN_BLOCK = 64 << 10;
  OptionReader reader("blocksize", options);
  BlocksizeSettings settings;
  settings.min_block = size_of(reader, "minBlock", MAX_MIN_BLOCK, 0);
  if ((settings.min_block & (settings.min_block - 1)) != 0)
    reader.complain("minBlock", "a power of two");
  settings.max_data = size_of(reader, "maxData", UINT32_MAX, settings.min_block);
  settings.max_length = size_of(reader, "maxLength", UINT32_MAX, settings.min_block);
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<BlocksizeFilter>(settings, resources.threads);
}

const Registered registered_blocksize("blocksize", make_blocksize);

} // namespace

} // namespace asyncnbd::filters
