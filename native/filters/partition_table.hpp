// Finds a partition in an MBR or a GPT.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace asyncnbd::filters {

struct Partition {
  uint64_t offset; // in bytes
  uint64_t length;
  const char *table; // "MBR" or "GPT"
};

class PartitionTable {
public:
  // Fills `bytes` from the disk. Returns 0 or an errno.
  using Read = std::function<int(uint64_t offset, std::vector<uint8_t> *bytes)>;

  PartitionTable(uint64_t size_bytes, uint64_t sector_bytes, Read read)
      : size_bytes_(size_bytes), sector_bytes_(sector_bytes), read_(std::move(read)) {}

  // Finds a partition by its number, from 1 on; in an MBR, logical partitions begin with 5.
  // std::nullopt: not found; `error` says why.
  std::optional<Partition> find(uint32_t number);
  const std::string &error() const { return error_; }

private:
  using Sector = std::vector<uint8_t>;

  // An entry of an MBR, or of a boot record in an extended partition; in sectors.
  struct Entry {
    uint8_t type;
    uint64_t start;
    uint64_t count;

    bool is_extended() const;
  };

  bool read(uint64_t offset, Sector *bytes);
  static Entry entry_of(const Sector &sector, unsigned index);
  std::optional<Partition> find_gpt(const Sector &header, uint32_t number);
  std::optional<Partition> find_mbr(const Sector &mbr, uint32_t number);
  std::optional<Partition> find_logical(const Entry &extended, uint32_t number);
  std::optional<Partition> logical_at(uint64_t record, const Sector &sector, const Entry &extended,
                                      uint32_t number);
  std::optional<Partition> fail(std::string words);

  const uint64_t size_bytes_;
  const uint64_t sector_bytes_;
  const Read read_;
  std::string error_;
};

} // namespace asyncnbd::filters
