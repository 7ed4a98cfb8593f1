// Memory that a script serves as a disk: requests receive into it and send from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace asyncnbd::backend {

// Zero at first, and taken from the system page by page as it is written to. Stays as long as
// anyone has it, whatever the script does.
class DiskMemory {
public:
  // nullptr: the system does not have that much.
  static std::shared_ptr<DiskMemory> allocate(size_t size_bytes);
  ~DiskMemory();
  DiskMemory(const DiskMemory &) = delete;
  DiskMemory &operator=(const DiskMemory &) = delete;

  uint8_t *data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }

private:
  DiskMemory(uint8_t *data, size_t size_bytes) : data_(data), size_bytes_(size_bytes) {}

  uint8_t *const data_;
  const size_t size_bytes_;
};

// Where one export lies in it.
struct DiskPlace {
  std::shared_ptr<DiskMemory> memory; // nullptr: nowhere
  uint64_t begin = 0;

  uint8_t *at(uint64_t offset) const { return memory->data() + begin + offset; }
};

} // namespace asyncnbd::backend
