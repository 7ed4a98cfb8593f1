// Clients write to a temporary file; the disk below is only read.
#include <utility>

#include "filters/cow_disk.hpp"
#include "filters/cow_layer.hpp"
#include "filters/registry.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::DiskState;

class CowFilter final : public backend::Filter {
public:
  CowFilter(CowSettings settings, std::string directory, const backend::Resources &resources)
      : settings_(std::move(settings)), directory_(std::move(directory)), resources_(resources) {}

  const char *name() const override { return "cow"; }
  bool opens_readonly(bool) const override { return true; }
  bool keeps_state() const override { return true; }

  std::unique_ptr<DiskState> new_disk(const backend::Facts &below, std::string *error) override {
    std::unique_ptr<store::TemporaryFile> file =
        store::TemporaryFile::make(directory_, resources_.page_pipes, resources_.clock, error);
    if (!file)
      return nullptr;
    return std::make_unique<CowDisk>(std::move(file), below.size_bytes, resources_.threads);
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                DiskState *disk, std::string *error) override {
    auto &shared = static_cast<CowDisk &>(*disk);
    if (!is_same_size("cow", shared.size_bytes, (*below)->facts().size_bytes, error))
      return nullptr;
    return std::make_unique<CowLayer>(std::move(*below), opening, settings_, shared);
  }

private:
  const CowSettings settings_;
  const std::string directory_; // for temporary files
  const backend::Resources resources_;
};

// Options: blockBytes, a power of two from 4096 on; onCache: cache requests copy blocks too;
// onRead: reads do; onReadPath: reads do while a file of this name exists. nullptr, with a message
// in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_cow(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error) {
  OptionReader reader("cow", options);
  CowSettings settings;
  settings.block_bytes = reader.number("blockBytes", Blocks::DEFAULT_BYTES, Blocks::MAX_BYTES);
  settings.on_cache = reader.boolean("onCache", false);
  settings.on_read = KeepsReads::of(reader);
  *error = reader.error();
  if (!error->empty() || !is_block_size("cow", settings.block_bytes, error))
    return nullptr;
  std::string directory = store::TemporaryFile::directory(error);
  if (directory.empty())
    return nullptr;
  return std::make_unique<CowFilter>(std::move(settings), std::move(directory), resources);
}

const Registered registered_cow("cow", make_cow);

} // namespace

} // namespace asyncnbd::filters
