// See file_windows.hpp.
#include "store/file_windows.hpp"

#include <linux/magic.h>
#include <memory>
#include <new>
#include <sys/mman.h>
#include <sys/vfs.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

namespace asyncnbd::store {

FileWindows::FileWindows(int fd, const base::Clock &clock)
    : fd_(fd), clock_(clock), can_map_(is_suitable(fd)) {
  if (can_map_)
    handle_sigbus();
}

FileWindows::~FileWindows() {
  for (std::atomic<Window *> &window : windows_)
    unmake(window.load(std::memory_order_relaxed));
}

// In a suitable file system, mappings and system calls see the same data, and the first write to a
// page costs little.
bool FileWindows::is_suitable(int fd) {
  struct statfs fs;
  if (fstatfs(fd, &fs) == -1)
    return false;
  switch (static_cast<unsigned long>(fs.f_type)) {
  case TMPFS_MAGIC:
  case EXT4_SUPER_MAGIC:
  case XFS_SUPER_MAGIC:
  case OVERLAYFS_SUPER_MAGIC:
    return true;
  default:
    return false;
  }
}

uint8_t *FileWindows::about_to_write(uint64_t offset, size_t length_bytes) {
  return memory_of(offset, length_bytes, true);
}

uint8_t *FileWindows::about_to_overwrite(uint64_t offset, size_t length_bytes) {
  return memory_of(offset, length_bytes, false);
}

uint8_t *FileWindows::memory_of(uint64_t offset, size_t length_bytes, bool is_written_anyhow) {
  const uint64_t index = offset / WINDOW_BYTES;
  const uint64_t begin = offset % WINDOW_BYTES;
  if (!can_map_.load(std::memory_order_relaxed) || index >= MAX_WINDOWS ||
      length_bytes > WINDOW_BYTES - begin)
    return nullptr;
  Window *found = window(index);
  if (found == nullptr)
    return nullptr;
  constexpr uint64_t PERIODS = UINT8_MAX; // 0 means never written
  const uint64_t periods = static_cast<uint64_t>(clock_.now().time_since_epoch() / LATELY);
  const auto now = static_cast<uint8_t>(1 + periods % PERIODS);
  const auto before = static_cast<uint8_t>(1 + (periods + PERIODS - 1) % PERIODS);
  const uint64_t first = begin / UNIT_BYTES;
  const uint64_t last = (begin + length_bytes - 1) / UNIT_BYTES;
  bool is_recent = true;
  for (uint64_t unit = first; unit <= last; unit++) {
    const uint8_t period = found->written[unit].load(std::memory_order_relaxed);
    is_recent = is_recent && (period == now || period == before);
  }
  if (is_recent || is_written_anyhow)
    for (uint64_t unit = first; unit <= last; unit++)
      if (found->written[unit].load(std::memory_order_relaxed) != now)
        found->written[unit].store(now, std::memory_order_relaxed);
  return is_recent ? found->memory + begin : nullptr;
}

// The release of the thread that makes a window pairs with the acquire of threads that find it.
FileWindows::Window *FileWindows::window(size_t index) {
  std::atomic<Window *> &place = windows_[index];
  Window *there = place.load(std::memory_order_acquire);
  if (there != nullptr)
    return there;
  Window *made = make(index);
  if (made == nullptr)
    can_map_.store(false, std::memory_order_relaxed);
  else if (place.compare_exchange_strong(there, made, std::memory_order_acq_rel))
    return made;
  unmake(made);
  return there;
}

FileWindows::Window *FileWindows::make(size_t index) const {
  auto made = std::unique_ptr<Window>(new (std::nothrow) Window{});
  if (!made)
    return nullptr;
  // Under mlockall(2), writable memory would be filled at once.
  void *memory = mmap(nullptr, WINDOW_BYTES, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd_,
                      static_cast<off_t>(index * WINDOW_BYTES));
  if (memory == MAP_FAILED)
    return nullptr;
  made->memory = static_cast<uint8_t *>(memory);
  madvise(memory, WINDOW_BYTES, MADV_DONTDUMP); // clients' data must not be in a core file
  if (munlock(memory, WINDOW_BYTES) == 0 &&
      mprotect(memory, WINDOW_BYTES, PROT_READ | PROT_WRITE) == 0)
    return made.release();
  unmake(made.release());
  return nullptr;
}

void FileWindows::unmake(Window *window) {
  if (window == nullptr)
    return;
  munmap(window->memory, WINDOW_BYTES);
  delete window;
}

} // namespace asyncnbd::store
