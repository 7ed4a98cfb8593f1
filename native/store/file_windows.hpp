// Maps parts of a file that are written repeatedly: writing to a mapping saves the system call and
// the file system's work for each write.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/clock.hpp"
#include "store/guarded_copy.hpp"

namespace asyncnbd::store {

// Any thread.
class FileWindows {
public:
  static constexpr uint64_t WINDOW_BYTES = uint64_t{1} << 30;
  static constexpr uint64_t UNIT_BYTES = uint64_t{64} << 10;
  // For this time after a write, or up to twice as long, a unit counts as written a moment ago.
  static constexpr base::Duration LATELY = std::chrono::seconds(2);

  FileWindows(int fd, const base::Clock &clock);
  ~FileWindows();
  FileWindows(const FileWindows &) = delete;
  FileWindows &operator=(const FileWindows &) = delete;

  // Call it before a part of the file is written again. Returns the part's memory if this was
  // called for all of it a moment ago. Otherwise nullptr: data that is not cached would first be
  // read from the disk, and the first write to a page that has been written out takes a page fault.
  // Touching the memory may raise SIGBUS.
  uint8_t *about_to_write(uint64_t offset, size_t length_bytes);
  // The same, but if it returns nullptr, it has not noted a write: call about_to_write before you
  // write in another way.
  uint8_t *about_to_overwrite(uint64_t offset, size_t length_bytes);

private:
  static constexpr size_t MAX_WINDOWS = 1024;

  struct Window {
    uint8_t *memory;
    // By unit: the period in which it was last written; 0: never. They pair with nothing: a wrong
    // value only costs time.
    std::array<std::atomic<uint8_t>, WINDOW_BYTES / UNIT_BYTES> written;
  };

  static bool is_suitable(int fd);
  uint8_t *memory_of(uint64_t offset, size_t length_bytes, bool is_written_anyhow);
  Window *window(size_t index);
  Window *make(size_t index) const;
  static void unmake(Window *window);

  const int fd_;
  const base::Clock &clock_;
  // True until mapping has failed. Pairs with nothing.
  std::atomic<bool> can_map_;
  std::array<std::atomic<Window *>, MAX_WINDOWS> windows_{};
};

} // namespace asyncnbd::store
