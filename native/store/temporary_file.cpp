// See temporary_file.hpp.
#include "store/temporary_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <linux/falloc.h>
#include <new>
#include <sys/statvfs.h>
#include <unistd.h>
#include <utility>

#include "base/high_fd.hpp"
#include "base/invariant.hpp"

namespace asyncnbd::store {

namespace {

// If the file system does not support files without a name, makes a file and removes its name.
int open_unnamed(const std::string &directory) {
  const int fd = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd != -1)
    return fd;
  std::string name = directory + "/asyncnbd-XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC);
  if (named != -1)
    unlink(name.c_str());
  return named;
}

} // namespace

std::string TemporaryFile::directory(std::string *error) {
  const char *chosen = getenv("TMPDIR");
  const char *name = chosen != nullptr ? chosen : "/var/tmp";
  const std::unique_ptr<char, decltype(&free)> absolute(realpath(name, nullptr), &free);
  if (absolute)
    return absolute.get();
  *error =
      std::string("cannot make temporary files in ") + name + ": " + strerror(errno) +
      (chosen != nullptr ? "; set TMPDIR to another directory" : "; set TMPDIR to a directory");
  return "";
}

std::unique_ptr<TemporaryFile> TemporaryFile::make(const std::string &directory,
                                                   transport::PagePipes &pipes,
                                                   const base::Clock &clock, std::string *error) {
  const int fd = base::moved_high(open_unnamed(directory));
  if (fd == -1) {
    *error = "cannot make a temporary file in " + directory + ": " + strerror(errno);
    return nullptr;
  }
  return std::unique_ptr<TemporaryFile>(new TemporaryFile(pipes, clock, fd));
}

TemporaryFile::~TemporaryFile() {
  ::close(fd_);
}

int TemporaryFile::read(uint8_t *data, size_t length_bytes, uint64_t offset) const {
  while (length_bytes > 0) {
    const ssize_t done = pread(fd_, data, length_bytes, static_cast<off_t>(offset));
    if (done == 0)
      return EIO; // somebody has truncated it
    if (done == -1 && errno != EINTR)
      return errno;
    const size_t bytes = done == -1 ? 0 : static_cast<size_t>(done);
    data += bytes;
    length_bytes -= bytes;
    offset += bytes;
  }
  return 0;
}

transport::PagePipe::Owner TemporaryFile::read_pages(size_t length_bytes, uint64_t offset) {
  if (!takes_pages())
    return nullptr;
  transport::PagePipe::Owner pages = pipes_.take(transport::PagePipe::For::sending);
  if (!pages)
    return nullptr;
  const int error = pages->put_file(fd_, offset, length_bytes);
  if (error == -EINVAL || error == -EPERM || error == -ENOSYS) // refused by the system
    can_splice_.store(false, std::memory_order_relaxed);
  return error == 0 ? std::move(pages) : nullptr;
}

int TemporaryFile::write(const uint8_t *data, size_t length_bytes, uint64_t offset) {
  while (length_bytes > 0) {
    const ssize_t done = pwrite(fd_, data, length_bytes, static_cast<off_t>(offset));
    if (done == -1 && errno != EINTR)
      return errno == EFBIG || errno == EDQUOT ? ENOSPC : errno;
    const size_t bytes = done == -1 ? 0 : static_cast<size_t>(done);
    data += bytes;
    length_bytes -= bytes;
    offset += bytes;
  }
  return 0;
}

int TemporaryFile::write_pages(transport::PagePipe::Owner pages, size_t length_bytes,
                               uint64_t offset) {
  const size_t written = pages->write_file(fd_, offset);
  if (written == length_bytes)
    return 0;
  const int error = write_rest(*pages, length_bytes - written, offset + written);
  if (written == 0 && error == 0) // then this file does not support splice
    can_splice_.store(false, std::memory_order_relaxed);
  return error;
}

uint64_t TemporaryFile::block_bytes() const {
  struct statvfs facts;
  return fstatvfs(fd_, &facts) == 0 ? facts.f_bsize : 1;
}

// Writes the rest that could not be written as pages from a copy: if that fails too, its error says
// why.
int TemporaryFile::write_rest(transport::PagePipe &pages, size_t length_bytes, uint64_t offset) {
  const std::unique_ptr<uint8_t[]> rest(new (std::nothrow) uint8_t[length_bytes]);
  if (!rest)
    return ENOMEM;
  if (pages.take_out(rest.get()) != length_bytes)
    return EIO;
  return write(rest.get(), length_bytes, offset);
}

int TemporaryFile::overwrite(const uint8_t *data, size_t length_bytes, uint64_t offset) {
  uint8_t *const memory = windows_.about_to_write(offset, length_bytes);
  const bool is_written = memory != nullptr && copy_guarded(memory, data, length_bytes);
  return is_written ? 0 : write(data, length_bytes, offset);
}

int TemporaryFile::overwrite_pages(transport::PagePipe::Owner pages, size_t length_bytes,
                                   uint64_t offset) {
  windows_.about_to_write(offset, length_bytes);
  return write_pages(std::move(pages), length_bytes, offset);
}

uint8_t *TemporaryFile::begin_receiving(size_t length_bytes, uint64_t offset) {
  uint8_t *const memory = windows_.about_to_overwrite(offset, length_bytes);
  if (memory != nullptr) {
    std::lock_guard lock(mutex_);
    receiving_.push_back({offset, offset + length_bytes});
  }
  return memory;
}

void TemporaryFile::end_receiving(size_t length_bytes, uint64_t offset) {
  std::lock_guard lock(mutex_);
  const auto found = std::find_if(
      receiving_.begin(), receiving_.end(), [offset, length_bytes](const Range &range) {
        return range.begin == offset && range.end == offset + length_bytes;
      });
  base::invariant(found != receiving_.end(), "a receive that ends has begun");
  *found = receiving_.back();
  receiving_.pop_back();
}

// In ascending order.
std::vector<TemporaryFile::Range> TemporaryFile::receiving(uint64_t begin, uint64_t end) {
  std::vector<Range> found;
  {
    std::lock_guard lock(mutex_);
    std::copy_if(
        receiving_.begin(), receiving_.end(), std::back_inserter(found),
        [begin, end](const Range &range) { return range.begin < end && begin < range.end; });
  }
  std::sort(found.begin(), found.end(),
            [](const Range &a, const Range &b) { return a.begin < b.begin; });
  return found;
}

int TemporaryFile::write_zeroes(uint64_t length_bytes, uint64_t offset) {
  static constexpr uint8_t ZEROES[64 << 10] = {};
  while (length_bytes > 0) {
    const size_t bytes = std::min<uint64_t>(length_bytes, sizeof ZEROES);
    if (const int error = write(ZEROES, bytes, offset))
      return error;
    length_bytes -= bytes;
    offset += bytes;
  }
  return 0;
}

void TemporaryFile::discard(uint64_t length_bytes, uint64_t offset) {
  const uint64_t end = offset + length_bytes;
  for (const Range &range : receiving(offset, end)) {
    if (range.begin > offset)
      punch(range.begin - offset, offset);
    offset = std::max(offset, range.end);
  }
  if (offset < end)
    punch(end - offset, offset);
}

void TemporaryFile::punch(uint64_t length_bytes, uint64_t offset) {
  if (can_punch_.load(std::memory_order_relaxed) &&
      fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                static_cast<off_t>(length_bytes)) == -1 &&
      (errno == EOPNOTSUPP || errno == EPERM || errno == ENOSYS))
    can_punch_.store(false, std::memory_order_relaxed);
}

} // namespace asyncnbd::store
