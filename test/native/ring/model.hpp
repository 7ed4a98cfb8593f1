// Random requests to a part of a disk, whose content is known: what is read must be what has been
// written.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "client_side.hpp"

namespace ring {

class Model {
public:
  // The part is so many sectors from there on.
  Model(ClientSide &side, uint64_t first_sector, uint64_t seed);

  // Runs so many requests, as many in flight as there is room for. False: the server has hung up.
  bool run(unsigned requests);
  // Reads all of it.
  bool verify();

  unsigned failed() const { return failed_; }

  static constexpr uint64_t SECTOR_BYTES = 512;
  static constexpr uint64_t SECTORS = 512;

private:
  // Of a sector's content: zeroes, unknown, or a number that has been written.
  static constexpr uint64_t ZERO = 0;
  static constexpr uint64_t UNKNOWN = UINT64_MAX;
  // With some room, as data need not begin at the beginning of a page.
  static constexpr uint64_t MAX_SECTORS = DATA_BYTES / ENTRIES / SECTOR_BYTES - 1;

  struct Operation {
    bool is_free = true;
    uint16_t type = 0;
    uint64_t first = 0;
    uint64_t sectors = 0;
    uint64_t version = 0;
  };

  bool begin();
  bool choose_range(Operation &operation);
  uint16_t choose_type();
  void start(Operation &operation, uint16_t flags);
  bool finish_one();
  void take_answer(const Operation &operation, const Completion &completion);
  void check_read(const Operation &operation);
  void check_status(const Operation &operation, uint32_t count);
  void set(const Operation &operation, uint64_t version);
  uint8_t *memory_of(const Operation &operation) {
    return side_.data(place_of(operation) * (DATA_BYTES / ENTRIES + sizeof(uint64_t)));
  }
  uint64_t place_of(const Operation &operation) const {
    return static_cast<uint64_t>(&operation - operations_.data());
  }
  uint64_t word(uint64_t sector, uint64_t version, uint64_t at) const {
    return version == ZERO ? 0 : (version << 32 | sector << 8 | at) * 0x9e3779b97f4a7c15;
  }

  ClientSide &side_;
  const uint64_t first_sector_;
  std::mt19937_64 random_;
  std::vector<uint64_t> versions_ = std::vector<uint64_t>(SECTORS, UNKNOWN);
  std::vector<bool> busy_ = std::vector<bool>(SECTORS, false); // a request in flight has them
  std::vector<Operation> operations_ = std::vector<Operation>(ENTRIES);
  unsigned in_flight_ = 0;
  unsigned failed_ = 0;
  uint64_t last_version_ = 0;
};

} // namespace ring
