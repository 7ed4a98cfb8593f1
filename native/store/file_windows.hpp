// The parts of a file that are written again and again, as memory: what is written there takes
// neither a system call nor what a file system does for each write.
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
  // How long a unit counts as written a moment ago: once to twice this.
  static constexpr base::Duration LATELY = std::chrono::seconds(2);

  FileWindows(int fd, const base::Clock &clock);
  ~FileWindows();
  FileWindows(const FileWindows &) = delete;
  FileWindows &operator=(const FileWindows &) = delete;

  // Before a part of the file is written that has been written before: its memory if all of it was
  // written a moment ago, when this was last called for it. Else nullptr: what is in no cache would
  // be read from the disk first, and the first write after it has gone there takes a page fault for
  // each page. Touching the memory may raise SIGBUS.
  uint8_t *about_to_write(uint64_t offset, size_t length_bytes);
  // The same, but where that is nullptr it is not written: who writes it otherwise says so.
  uint8_t *about_to_overwrite(uint64_t offset, size_t length_bytes);

private:
  static constexpr size_t MAX_WINDOWS = 1024;

  struct Window {
    uint8_t *memory;
    // By unit, in which period it was last written; 0: never. They pair with nothing: a wrong one
    // costs time and nothing else.
    std::array<std::atomic<uint8_t>, WINDOW_BYTES / UNIT_BYTES> written;
  };

  static bool is_suitable(int fd);
  uint8_t *memory_of(uint64_t offset, size_t length_bytes, bool is_written_anyhow);
  Window *window(size_t index);
  Window *make(size_t index) const;
  static void unmake(Window *window);

  const int fd_;
  const base::Clock &clock_;
  // Until it turns out that there can be none. Pairs with nothing.
  std::atomic<bool> can_map_;
  std::array<std::atomic<Window *>, MAX_WINDOWS> windows_{};
};

} // namespace asyncnbd::store
