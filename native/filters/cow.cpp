// See cow.hpp.
#include "filters/cow.hpp"

#include <utility>

#include "filters/cow_disk.hpp"
#include "filters/cow_layer.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::DiskState;

class CowFilter final : public backend::Filter {
public:
  CowFilter(CowSettings settings, const backend::Resources &resources)
      : settings_(std::move(settings)), resources_(resources) {}

  const char *name() const override { return "cow"; }
  bool opens_readonly(bool) const override { return true; }
  bool keeps_state() const override { return true; }

  std::unique_ptr<DiskState> new_disk(const backend::Capabilities &below,
                                      std::string *error) override {
    std::unique_ptr<store::TemporaryFile> file =
        store::TemporaryFile::make(resources_.page_pipes, error);
    if (!file)
      return nullptr;
    return std::make_unique<CowDisk>(std::move(file), below.size_bytes, resources_.threads);
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, bool is_readonly, DiskState *disk,
                                std::string *error) override {
    auto &shared = static_cast<CowDisk &>(*disk);
    const uint64_t size_bytes = (*below)->capabilities().size_bytes;
    if (size_bytes != shared.size_bytes) {
      *error = "filter cow: the disk had " + std::to_string(shared.size_bytes) +
               " bytes when a client opened it first and has " + std::to_string(size_bytes) +
               " now; restart the server, or have the plugin list exports that are different disks";
      return nullptr;
    }
    return std::make_unique<CowLayer>(std::move(*below), is_readonly, settings_, shared,
                                      operations_);
  }

private:
  const CowSettings settings_;
  const backend::Resources resources_;
  CowOperationSlabs operations_;
};

} // namespace

std::unique_ptr<backend::Filter> make_cow(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error) {
  constexpr uint64_t DEFAULT_BLOCK_BYTES = 64 << 10;
  constexpr uint64_t MIN_BLOCK_BYTES = 4096;
  constexpr uint64_t MAX_BLOCK_BYTES = 64 << 20;
  OptionReader reader("cow", options);
  CowSettings settings;
  settings.block_bytes = reader.number("blockBytes", DEFAULT_BLOCK_BYTES, MAX_BLOCK_BYTES);
  settings.on_cache = reader.boolean("onCache", false);
  settings.on_read = reader.boolean("onRead", false);
  settings.on_read_path = reader.text("onReadPath");
  *error = reader.error();
  const uint64_t bytes = settings.block_bytes;
  if (error->empty() && (bytes < MIN_BLOCK_BYTES || (bytes & (bytes - 1)) != 0))
    *error = "filter cow: a block has a power of two of bytes, 4096 at least";
  if (!error->empty())
    return nullptr;
  return std::make_unique<CowFilter>(std::move(settings), resources);
}

} // namespace asyncnbd::filters
