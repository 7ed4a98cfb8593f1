// A file without a name, for what need not outlive the process.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/mutex.hpp"
#include "store/file_windows.hpp"
#include "transport/page_pipe.hpp"

namespace asyncnbd::store {

// As large as what has been written; what nobody has written, or has been discarded, takes no
// space. Functions return 0 or an errno. Any thread.
class TemporaryFile {
public:
  // $TMPDIR, or /var/tmp, as an absolute path: the process may change its directory. "", with words
  // in `*error`, if there is no such directory.
  static std::string directory(std::string *error);

  // In that directory. nullptr, with words in `*error`, on failure.
  static std::unique_ptr<TemporaryFile> make(const std::string &directory,
                                             transport::PagePipes &pipes, const base::Clock &clock,
                                             std::string *error);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile &) = delete;
  TemporaryFile &operator=(const TemporaryFile &) = delete;

  // What has been written, all of it.
  int read(uint8_t *data, size_t length_bytes, uint64_t offset) const;
  // As pages; nullptr if that is not possible.
  transport::PagePipe::Owner read_pages(size_t length_bytes, uint64_t offset);

  int write(const uint8_t *data, size_t length_bytes, uint64_t offset);
  int write_pages(transport::PagePipe::Owner pages, size_t length_bytes, uint64_t offset);
  // The same, of what has been written before, all of it: quicker if that was a moment ago.
  int overwrite(const uint8_t *data, size_t length_bytes, uint64_t offset);
  int overwrite_pages(transport::PagePipe::Owner pages, size_t length_bytes, uint64_t offset);
  // Before one of these two: where that may be received in their place, which is nullptr unless it
  // was written a moment ago. For the system alone to write to: touching it may raise SIGBUS. Ended
  // by end_receiving of the same range; until then what is discarded of it keeps its space, so that
  // there is room for what comes.
  uint8_t *begin_receiving(size_t length_bytes, uint64_t offset);
  void end_receiving(size_t length_bytes, uint64_t offset);
  // Whether pages are worth it.
  bool takes_pages() const { return can_splice_.load(std::memory_order_relaxed); }

  // Of its file system: less than a block takes as much space.
  uint64_t block_bytes() const;

  int write_zeroes(uint64_t length_bytes, uint64_t offset);
  // Gives back the space where it can; what is in it then, nobody may rely on.
  void discard(uint64_t length_bytes, uint64_t offset);

private:
  struct Range {
    uint64_t begin;
    uint64_t end;
  };

  TemporaryFile(transport::PagePipes &pipes, const base::Clock &clock, int fd)
      : pipes_(pipes), fd_(fd), windows_(fd, clock) {}
  int write_rest(transport::PagePipe &pages, size_t length_bytes, uint64_t offset);
  std::vector<Range> receiving(uint64_t begin, uint64_t end);
  void punch(uint64_t length_bytes, uint64_t offset);

  transport::PagePipes &pipes_;
  const int fd_;
  FileWindows windows_;
  // Until it turns out that they cannot be. They pair with nothing: who reads an old value tries
  // once more.
  std::atomic<bool> can_splice_{true};
  std::atomic<bool> can_punch_{true};

  base::Mutex<base::LockRank::temporary_file> mutex_; // guards the rest
  std::vector<Range> receiving_;                      // one of a client at the most
};

} // namespace asyncnbd::store
