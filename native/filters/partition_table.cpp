// See partition_table.hpp. All numbers on the disk are little-endian.
#include "filters/partition_table.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/request.hpp"
#include "base/error_numbers.hpp"

namespace asyncnbd::filters {

namespace {

constexpr uint32_t PRIMARY_PARTITIONS = 4;
constexpr size_t ENTRIES_AT = 446; // in an MBR
constexpr size_t ENTRY_BYTES = 16;
constexpr size_t SIGNATURE_AT = 510;

// "UEFI Specification", GPT Header and GPT Partition Entry.
constexpr uint64_t GPT_ENTRY_BYTES = 128; // at least
constexpr size_t ENTRY_COUNT_AT = 80;
constexpr size_t ENTRY_SIZE_AT = 84;
constexpr size_t TYPE_BYTES = 16;
constexpr size_t FIRST_SECTOR_AT = 32;
constexpr size_t LAST_SECTOR_AT = 40;

uint64_t number_at(const std::vector<uint8_t> &bytes, size_t at, size_t length) {
  uint64_t number = 0;
  for (size_t i = length; i > 0; i--)
    number = number << 8 | bytes[at + i - 1];
  return number;
}

} // namespace

std::optional<Partition> PartitionTable::find(uint32_t number) {
  constexpr uint64_t GPT_SECTORS = 34; // the table and what precedes it; a copy is at the end
  if (size_bytes_ < 2 * sector_bytes_)
    return fail("the disk has only " + std::to_string(size_bytes_) +
                " bytes, too few for a partition table");
  Sector mbr(sector_bytes_);
  Sector header(sector_bytes_);
  if (!read(0, &mbr) || !read(sector_bytes_, &header))
    return std::nullopt;
  std::optional<Partition> found;
  if (size_bytes_ >= 2 * GPT_SECTORS * sector_bytes_ &&
      std::memcmp(header.data(), "EFI PART", 8) == 0)
    found = find_gpt(header, number);
  else if (mbr[SIGNATURE_AT] == 0x55 && mbr[SIGNATURE_AT + 1] == 0xAA)
    found = find_mbr(mbr, number);
  else
    return fail("the disk has neither an MBR nor a GPT partition table");
  if (found && !backend::is_inside(found->offset, found->length, size_bytes_))
    return fail("partition " + std::to_string(number) + " is outside the disk, which has " +
                std::to_string(size_bytes_) + " bytes");
  return found;
}

std::optional<Partition> PartitionTable::fail(std::string words) {
  error_ = std::move(words);
  return std::nullopt;
}

bool PartitionTable::read(uint64_t offset, Sector *bytes) {
  const int error = read_(offset, bytes);
  if (error != 0)
    fail("cannot read the partition table at " + std::to_string(offset) + ": " +
         base::error_text(error));
  return error == 0;
}

// ---- GPT ---------------------------------------------------------------------------------------

std::optional<Partition> PartitionTable::find_gpt(const Sector &header, uint32_t number) {
  const uint64_t count = number_at(header, ENTRY_COUNT_AT, 4);
  const uint64_t entry_bytes = number_at(header, ENTRY_SIZE_AT, 4);
  if (number > count)
    return fail("there is no partition " + std::to_string(number) + ": the GPT has room for " +
                std::to_string(count));
  if (entry_bytes < GPT_ENTRY_BYTES)
    return fail("the GPT is broken: its entries have only " + std::to_string(entry_bytes) +
                " bytes");
  // The table exists twice, each time with a header, after an MBR.
  if (3 * sector_bytes_ > size_bytes_ ||
      count > (size_bytes_ - 3 * sector_bytes_) / 2 / entry_bytes)
    return fail("the GPT is broken: it is larger than the disk");
  Sector entry(GPT_ENTRY_BYTES);
  if (!read(2 * sector_bytes_ + (number - 1) * entry_bytes, &entry))
    return std::nullopt;
  const bool is_used = std::any_of(entry.begin(), entry.begin() + TYPE_BYTES,
                                   [](uint8_t byte) { return byte != 0; });
  if (!is_used)
    return fail("there is no partition " + std::to_string(number) + " in the GPT");
  const uint64_t first = number_at(entry, FIRST_SECTOR_AT, 8);
  const uint64_t last = number_at(entry, LAST_SECTOR_AT, 8);
  if (last < first || last >= size_bytes_ / sector_bytes_)
    return fail("partition " + std::to_string(number) + " is outside the disk, which has " +
                std::to_string(size_bytes_) + " bytes");
  return Partition{first * sector_bytes_, (last - first + 1) * sector_bytes_, "GPT"};
}

// ---- MBR ---------------------------------------------------------------------------------------

bool PartitionTable::Entry::is_extended() const {
  return count > 0 && (type == 0x05 || type == 0x0f || type == 0x85);
}

PartitionTable::Entry PartitionTable::entry_of(const Sector &sector, unsigned index) {
  const size_t at = ENTRIES_AT + index * ENTRY_BYTES;
  return {sector[at + 4], number_at(sector, at + 8, 4), number_at(sector, at + 12, 4)};
}

std::optional<Partition> PartitionTable::find_mbr(const Sector &mbr, uint32_t number) {
  if (number <= PRIMARY_PARTITIONS) {
    const Entry entry = entry_of(mbr, number - 1);
    if (entry.count > 0 && entry.type != 0 && !entry.is_extended())
      return Partition{entry.start * sector_bytes_, entry.count * sector_bytes_, "MBR"};
    return fail(
        "there is no partition " + std::to_string(number) + " in the MBR" +
        (entry.is_extended() ? ": it is an extended one, which holds those from 5 on" : ""));
  }
  for (unsigned i = 0; i < PRIMARY_PARTITIONS; i++)
    if (const Entry entry = entry_of(mbr, i); entry.is_extended())
      return find_logical(entry, number);
  return fail("there is no partition " + std::to_string(number) +
              ": the MBR has no extended partition, which would hold those from 5 on");
}

// Each boot record in the extended partition has a logical partition, and the place of the next
// record. That must be further on, or the search might never end.
std::optional<Partition> PartitionTable::find_logical(const Entry &extended, uint32_t number) {
  uint64_t record = extended.start * sector_bytes_;
  Sector sector(sector_bytes_);
  for (uint32_t i = PRIMARY_PARTITIONS + 1;; i++) {
    if (record < sector_bytes_ || record >= size_bytes_ - sector_bytes_)
      return fail("the extended partition is broken: its boot record at " + std::to_string(record) +
                  " is outside the disk");
    if (!read(record, &sector))
      return std::nullopt;
    if (i == number)
      return logical_at(record, sector, extended, number);
    const Entry next = entry_of(sector, 1);
    if (next.start == 0 && next.count == 0)
      return fail("there is no partition " + std::to_string(number) +
                  " in the MBR: the last one is " + std::to_string(i));
    const uint64_t next_record = (extended.start + next.start) * sector_bytes_;
    if (next_record <= record)
      return fail("the extended partition is broken: its boot record at " + std::to_string(record) +
                  " is followed by one at " + std::to_string(next_record));
    record = next_record;
  }
}

std::optional<Partition> PartitionTable::logical_at(uint64_t record, const Sector &sector,
                                                    const Entry &extended, uint32_t number) {
  const Entry entry = entry_of(sector, 0);
  const uint64_t offset = record + entry.start * sector_bytes_;
  const uint64_t length = entry.count * sector_bytes_;
  if (offset <= record || offset + length > (extended.start + extended.count) * sector_bytes_)
    return fail("partition " + std::to_string(number) + " is outside the extended partition");
  return Partition{offset, length, "MBR"};
}

} // namespace asyncnbd::filters
