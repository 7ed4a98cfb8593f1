// Shows clients one partition of a disk.
#include <optional>
#include <utility>

#include "filters/moved_layer.hpp"
#include "filters/partition_table.hpp"
#include "filters/read_now.hpp"
#include "filters/registry.hpp"
#include "filters/shared_backend.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;

class PartitionLayer final : public MovedLayer {
public:
  PartitionLayer(const std::shared_ptr<Backend> &opened, const host::CallContext &context,
                 uint32_t number, uint64_t sector_bytes)
      : MovedLayer(std::make_unique<SharedBackend>(opened)), opened_(opened), context_(context),
        number_(number), sector_bytes_(sector_bytes) {}

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override {
    if (!MovedLayer::collect(wanted, facts, error))
      return false;
    if (!facts->description.empty())
      facts->description =
          "partition " + std::to_string(number_) + " of " + table_ + " disk: " + facts->description;
    return true;
  }

  const char *filter_name() const override { return "partition"; }
  std::optional<DiskPart> find_part(const backend::Facts &below_facts,
                                    std::string *error) override {
    PartitionTable table(below_facts.size_bytes, sector_bytes_,
                         [this](uint64_t offset, std::vector<uint8_t> *bytes) {
                           return read_now(opened_, context_, offset, bytes);
                         });
    const std::optional<Partition> found = table.find(number_);
    if (!found) {
      *error = "filter partition: " + table.error();
      return std::nullopt;
    }
    table_ = found->table;
    return DiskPart{found->offset, found->length};
  }

  const std::shared_ptr<Backend> opened_;
  const host::CallContext &context_;
  const uint32_t number_;
  const uint64_t sector_bytes_;
  const char *table_ = "";
};

class PartitionFilter final : public backend::Filter {
public:
  PartitionFilter(uint32_t number, uint64_t sector_bytes)
      : number_(number), sector_bytes_(sector_bytes) {}

  const char *name() const override { return "partition"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    const std::shared_ptr<Backend> opened = std::move(*below);
    return std::make_unique<PartitionLayer>(opened, opening.context, number_, sector_bytes_);
  }

private:
  const uint32_t number_;
  const uint64_t sector_bytes_;
};

// Options: number, from 1 on; sectorBytes, 512 by default, or 4096. nullptr, with a message in
// `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_partition(const FilterOptions &options,
                                                const backend::Resources &, std::string *error) {
  constexpr uint64_t DEFAULT_SECTOR_BYTES = 512;
  constexpr uint64_t LARGE_SECTOR_BYTES = 4096;
  OptionReader reader("partition", options);
  const uint64_t number = reader.number("number", 0, UINT32_MAX);
  if (number == 0)
    reader.complain("number", "the number of a partition, from 1 on");
  const uint64_t sector_bytes =
      reader.number("sectorBytes", DEFAULT_SECTOR_BYTES, LARGE_SECTOR_BYTES);
  if (sector_bytes != DEFAULT_SECTOR_BYTES && sector_bytes != LARGE_SECTOR_BYTES)
    reader.complain("sectorBytes", "512 or 4096");
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<PartitionFilter>(static_cast<uint32_t>(number), sector_bytes);
}

const Registered registered_partition("partition", make_partition);

} // namespace

} // namespace asyncnbd::filters
