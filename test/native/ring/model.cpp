// See model.hpp.
#include "model.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace ring {

using namespace asyncnbd::wire;

namespace {

constexpr uint64_t STATE_ZERO = 2; // NBD_STATE_ZERO

bool modifies(uint16_t type) {
  return type == NBD_CMD_WRITE || type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES;
}

} // namespace

Model::Model(ClientSide &side, uint64_t first_sector, uint64_t seed)
    : side_(side), first_sector_(first_sector), random_(seed) {
  expect((first_sector + SECTORS) * SECTOR_BYTES <= side.welcome().size_bytes,
         "the export is too small for the model");
}

bool Model::run(unsigned requests) {
  for (unsigned begun = 0; begun < requests;) {
    while (begun < requests && side_.has_room() && begin())
      begun++;
    side_.kick();
    if (!finish_one())
      return false;
  }
  while (in_flight_ > 0)
    if (!finish_one())
      return false;
  return true;
}

bool Model::verify() {
  for (uint64_t first = 0; first < SECTORS; first += MAX_SECTORS) {
    Operation &operation = operations_.front();
    operation = {false, NBD_CMD_READ, first, std::min(MAX_SECTORS, SECTORS - first), 0};
    start(operation, 0);
    side_.kick();
    if (!finish_one())
      return false;
  }
  return true;
}

// False: what it came upon is in use.
bool Model::begin() {
  const auto found = std::find_if(operations_.begin(), operations_.end(),
                                  [](const Operation &operation) { return operation.is_free; });
  if (found == operations_.end())
    return false;
  Operation &operation = *found;
  operation.type = choose_type();
  if (!choose_range(operation))
    return false;
  operation.is_free = false;
  uint16_t flags = 0;
  if (modifies(operation.type) && (side_.welcome().offers & Welcome::FUA) != 0 &&
      random_() % 4 == 0)
    flags |= NBD_CMD_FLAG_FUA;
  if (operation.type == NBD_CMD_WRITE_ZEROES && random_() % 2 == 0)
    flags |= NBD_CMD_FLAG_NO_HOLE;
  start(operation, flags);
  return true;
}

uint16_t Model::choose_type() {
  constexpr uint16_t TYPES[] = {NBD_CMD_READ,         NBD_CMD_READ,  NBD_CMD_READ,
                                NBD_CMD_WRITE,        NBD_CMD_WRITE, NBD_CMD_WRITE,
                                NBD_CMD_WRITE_ZEROES, NBD_CMD_TRIM,  NBD_CMD_FLUSH,
                                NBD_CMD_BLOCK_STATUS, NBD_CMD_CACHE};
  const uint16_t type = TYPES[random_() % std::size(TYPES)];
  return side_.offers(type) ? type : static_cast<uint16_t>(NBD_CMD_READ);
}

bool Model::choose_range(Operation &operation) {
  operation.first = operation.sectors = 0;
  if (operation.type == NBD_CMD_FLUSH)
    return true;
  operation.first = random_() % SECTORS;
  const uint64_t most = random_() % 4 == 0 ? MAX_SECTORS : 8;
  operation.sectors = 1 + random_() % std::min(most, SECTORS - operation.first);
  for (uint64_t i = 0; i < operation.sectors; i++)
    if (busy_[operation.first + i])
      return false;
  return true;
}

void Model::start(Operation &operation, uint16_t flags) {
  const bool is_status = operation.type == NBD_CMD_BLOCK_STATUS;
  const bool has_data =
      is_status || operation.type == NBD_CMD_READ || operation.type == NBD_CMD_WRITE;
  uint8_t *memory = memory_of(operation);
  const uint64_t length_bytes = operation.sectors * SECTOR_BYTES;
  if (operation.type == NBD_CMD_WRITE) {
    operation.version = ++last_version_;
    for (uint64_t at = 0; at < length_bytes; at += sizeof(uint64_t)) {
      const uint64_t made = word(operation.first + at / SECTOR_BYTES, operation.version,
                                 at % SECTOR_BYTES / sizeof(uint64_t));
      memcpy(memory + at, &made, sizeof made);
    }
  } else if (operation.type == NBD_CMD_READ) {
    memset(memory, 0xa5, length_bytes);
  }
  for (uint64_t i = 0; i < operation.sectors; i++)
    busy_[operation.first + i] = true;
  in_flight_++;
  const auto data_bytes =
      static_cast<uint32_t>(is_status ? 16 * sizeof(ExtentEntry) : length_bytes);
  const bool is_flush = operation.type == NBD_CMD_FLUSH;
  side_.submit({place_of(operation),
                is_flush ? 0 : (first_sector_ + operation.first) * SECTOR_BYTES, length_bytes,
                has_data ? static_cast<uint64_t>(memory - side_.data(0)) : 0,
                has_data ? data_bytes : 0, operation.type, flags});
}

bool Model::finish_one() {
  const std::optional<Completion> completion = side_.wait();
  if (!completion)
    return false;
  expect(completion->id < ENTRIES && !operations_[completion->id].is_free,
         "a completion of nothing: " + std::to_string(completion->id));
  Operation &operation = operations_[completion->id];
  for (uint64_t i = 0; i < operation.sectors; i++)
    busy_[operation.first + i] = false;
  take_answer(operation, *completion);
  operation.is_free = true;
  in_flight_--;
  return true;
}

void Model::take_answer(const Operation &operation, const Completion &completion) {
  if (completion.error != 0) {
    failed_++;
    if (modifies(operation.type))
      set(operation, UNKNOWN);
    return;
  }
  if (operation.type == NBD_CMD_READ)
    check_read(operation);
  else if (operation.type == NBD_CMD_BLOCK_STATUS)
    check_status(operation, completion.count);
  else if (operation.type == NBD_CMD_WRITE)
    set(operation, operation.version);
  else if (operation.type == NBD_CMD_WRITE_ZEROES)
    set(operation, ZERO);
  else if (operation.type == NBD_CMD_TRIM)
    set(operation, UNKNOWN);
}

void Model::set(const Operation &operation, uint64_t version) {
  for (uint64_t i = 0; i < operation.sectors; i++)
    versions_[operation.first + i] = version;
}

void Model::check_read(const Operation &operation) {
  for (uint64_t at = 0; at < operation.sectors * SECTOR_BYTES; at += sizeof(uint64_t)) {
    const uint64_t sector = operation.first + at / SECTOR_BYTES;
    uint64_t found;
    memcpy(&found, memory_of(operation) + at, sizeof found);
    expect(versions_[sector] == UNKNOWN ||
               found == word(sector, versions_[sector], at % SECTOR_BYTES / sizeof found),
           "sector " + std::to_string(first_sector_ + sector) + " is not as it was written");
  }
}

void Model::check_status(const Operation &operation, uint32_t count) {
  expect(count > 0 && count <= 16, "a status of " + std::to_string(count) + " extents");
  uint64_t from = operation.first * SECTOR_BYTES;
  const uint64_t end = (operation.first + operation.sectors) * SECTOR_BYTES;
  for (uint32_t i = 0; i < count; i++) {
    ExtentEntry extent;
    memcpy(&extent, memory_of(operation) + i * sizeof extent, sizeof extent);
    expect(extent.length_bytes > 0, "an empty extent");
    const uint64_t to = std::min(end, from + extent.length_bytes);
    for (; (extent.flags & STATE_ZERO) != 0 && from < to; from += SECTOR_BYTES) {
      const uint64_t version = versions_[from / SECTOR_BYTES];
      expect(version == UNKNOWN || version == ZERO, "what has been written is not zero");
    }
    from = to;
  }
}

} // namespace ring
