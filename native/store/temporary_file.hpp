// A file without a name, for data that need not outlive the process.
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

// It grows as it is written. Parts that nobody has written, or that were discarded, take no space.
// Functions return 0 or an errno. Any thread.
class TemporaryFile {
public:
  // $TMPDIR, or /var/tmp, as an absolute path: the process may change its directory. "", with a
  // message in `*error`, if the directory does not exist.
  static std::string directory(std::string *error);

  // Makes one in that directory. nullptr, with a message in `*error`, on failure.
  static std::unique_ptr<TemporaryFile> make(const std::string &directory,
                                             transport::PagePipes &pipes, const base::Clock &clock,
                                             std::string *error);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile &) = delete;
  TemporaryFile &operator=(const TemporaryFile &) = delete;

  // The whole range must have been written.
  int read(uint8_t *data, size_t length_bytes, uint64_t offset) const;
  // Reads as pages; nullptr if that is not possible.
  transport::PagePipe::Owner read_pages(size_t length_bytes, uint64_t offset);

  int write(const uint8_t *data, size_t length_bytes, uint64_t offset);
  int write_pages(transport::PagePipe::Owner pages, size_t length_bytes, uint64_t offset);
  // The same for a range that has been written before; quicker if that was a moment ago.
  int overwrite(const uint8_t *data, size_t length_bytes, uint64_t offset);
  int overwrite_pages(transport::PagePipe::Owner pages, size_t length_bytes, uint64_t offset);
  // Instead of these two: memory into which the range can be received; nullptr unless the range was
  // written a moment ago. Only system calls may write to it, because touching it may raise SIGBUS.
  // end_receiving for the same range must follow; until then, discarding does not free the range's
  // space, so that there is room for the data.
  uint8_t *begin_receiving(size_t length_bytes, uint64_t offset);
  void end_receiving(size_t length_bytes, uint64_t offset);
  // Whether using pages is worthwhile.
  bool takes_pages() const { return can_splice_.load(std::memory_order_relaxed); }

  // The block size of its file system: less than a block takes the same space.
  uint64_t block_bytes() const;

  int write_zeroes(uint64_t length_bytes, uint64_t offset);
  // Gives back the space if possible; the content is then undefined.
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
  // True until splicing has failed. They pair with nothing: a thread that reads an old value tries
  // once more.
  std::atomic<bool> can_splice_{true};
  std::atomic<bool> can_punch_{true};

  base::Mutex<base::LockRank::temporary_file> mutex_; // guards the rest
  std::vector<Range> receiving_;                      // at most one for each client
};

} // namespace asyncnbd::store
