// See disk_memory.hpp.
#include "backend/disk_memory.hpp"

#include <algorithm>
#include <sys/mman.h>

namespace asyncnbd::backend {

std::shared_ptr<DiskMemory> DiskMemory::allocate(size_t size_bytes) {
  const size_t mapped_bytes = std::max<size_t>(size_bytes, 1); // there is no mapping of nothing
  void *data = mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED)
    return nullptr;
  return std::shared_ptr<DiskMemory>(new DiskMemory(static_cast<uint8_t *>(data), size_bytes));
}

DiskMemory::~DiskMemory() {
  munmap(data_, std::max<size_t>(size_bytes_, 1));
}

} // namespace asyncnbd::backend
