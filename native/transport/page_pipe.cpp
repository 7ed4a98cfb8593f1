// See page_pipe.hpp.
#include "transport/page_pipe.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

namespace asyncnbd::transport {

namespace {

// As much as an unprivileged process may have; with less it works too.
constexpr int PIPE_BYTES = 1 << 20;

} // namespace

PagePipe::~PagePipe() {
  close();
}

bool PagePipe::open() {
  if (read_end_ != -1)
    return true;
  int ends[2];
  if (is_of_no_use_ || pipe2(ends, O_CLOEXEC) == -1)
    return false;
  read_end_ = ends[0];
  write_end_ = ends[1];
  fcntl(write_end_, F_SETPIPE_SZ, PIPE_BYTES);
  return true;
}

void PagePipe::close() {
  if (read_end_ == -1)
    return;
  ::close(read_end_);
  ::close(write_end_);
  read_end_ = write_end_ = -1;
}

ssize_t PagePipe::send(int socket, const uint8_t *data, size_t length_bytes) {
  if (!open())
    return -ENOTSUP;
  size_t sent_bytes = 0;
  while (sent_bytes < length_bytes) {
    iovec rest{const_cast<uint8_t *>(data) + sent_bytes, length_bytes - sent_bytes};
    const ssize_t piped = vmsplice(write_end_, &rest, 1, SPLICE_F_NONBLOCK);
    if (piped <= 0) { // a sandbox forbids it, or the memory cannot be read
      is_of_no_use_ = sent_bytes == 0 && errno != EFAULT;
      return sent_bytes > 0 ? static_cast<ssize_t>(sent_bytes) : -ENOTSUP;
    }
    for (ssize_t left = piped; left > 0;) {
      const bool more = sent_bytes + static_cast<size_t>(left) < length_bytes;
      const ssize_t spliced = splice(read_end_, nullptr, socket, nullptr, static_cast<size_t>(left),
                                     more ? SPLICE_F_MORE : 0);
      if (spliced < 0 && errno == EINTR)
        continue;
      if (spliced <= 0) {
        const int error = spliced == 0 ? EPIPE : errno;
        close(); // with what is left in it
        return sent_bytes > 0 ? static_cast<ssize_t>(sent_bytes) : -error;
      }
      left -= spliced;
      sent_bytes += static_cast<size_t>(spliced);
    }
  }
  return static_cast<ssize_t>(sent_bytes);
}

} // namespace asyncnbd::transport
