// See page_pipe.hpp.
#include "transport/page_pipe.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <mutex>
#include <sys/uio.h>
#include <unistd.h>
#include <vector>

namespace asyncnbd::transport {

namespace {

// As much as an unprivileged process may have; with less it works too.
constexpr int PIPE_BYTES = 1 << 20;
// Less is not worth it: one who already has many pipes is given no more than that.
constexpr size_t MIN_ROOM_BYTES = 64 << 10;
// Each is two descriptors, of which clients need many.
constexpr size_t MAX_PIPES = 128;
constexpr size_t MAX_KEPT = 8;

const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// Of the process.
struct Pipes {
  std::mutex mutex;
  std::vector<PagePipe *> kept;
  size_t count = 0;

  // Never destroyed: threads may end after it.
  static Pipes &instance() {
    static auto *pipes = new Pipes;
    return *pipes;
  }
};

} // namespace

PagePipe *PagePipe::open() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) == -1)
    return nullptr;
  auto *pipe = new PagePipe(ends[0], ends[1]);
  fcntl(pipe->write_end_, F_SETPIPE_SZ, PIPE_BYTES);
  const int room_bytes = fcntl(pipe->write_end_, F_GETPIPE_SZ);
  pipe->pages_ = room_bytes > 0 ? static_cast<size_t>(room_bytes) / page_bytes : 0;
  return pipe;
}

PagePipe::~PagePipe() {
  ::close(read_end_);
  ::close(write_end_);
}

PagePipe::Owner PagePipe::take() {
  Pipes &pipes = Pipes::instance();
  {
    std::lock_guard lock(pipes.mutex);
    if (!pipes.kept.empty()) {
      Owner pipe(pipes.kept.back());
      pipes.kept.pop_back();
      return pipe;
    }
    if (pipes.count == MAX_PIPES)
      return nullptr;
    pipes.count++;
  }
  PagePipe *pipe = open();
  if (pipe != nullptr)
    return Owner(pipe);
  std::lock_guard lock(pipes.mutex);
  pipes.count--;
  return nullptr;
}

void PagePipe::Returner::operator()(PagePipe *pipe) const {
  pipe->next_.reset();
  Pipes &pipes = Pipes::instance();
  {
    std::lock_guard lock(pipes.mutex);
    if (pipe->length_bytes_ == 0 && pipes.kept.size() < MAX_KEPT) {
      pipes.kept.push_back(pipe);
      return;
    }
    pipes.count--;
  }
  delete pipe;
}

void PagePipe::close_kept() {
  Pipes &pipes = Pipes::instance();
  std::lock_guard lock(pipes.mutex);
  for (PagePipe *pipe : pipes.kept)
    delete pipe;
  pipes.count -= pipes.kept.size();
  pipes.kept.clear();
}

ssize_t PagePipe::put_memory(const uint8_t *data, size_t length_bytes) {
  const iovec memory{const_cast<uint8_t *>(data), length_bytes};
  const ssize_t put = vmsplice(write_end_, &memory, 1, SPLICE_F_NONBLOCK);
  if (put < 0)
    return -errno;
  length_bytes_ += static_cast<size_t>(put);
  return put;
}

int PagePipe::put_file(int fd, uint64_t offset, size_t length_bytes) {
  const size_t room_bytes = pages_ * page_bytes;
  if (room_bytes < MIN_ROOM_BYTES)
    return -ENOBUFS;
  const size_t part_bytes = std::min<size_t>(length_bytes, room_bytes - offset % page_bytes);
  const int error = splice_in(fd, offset, part_bytes);
  if (error != 0 || part_bytes == length_bytes)
    return error;
  next_ = take();
  return next_ ? next_->put_file(fd, offset + part_bytes, length_bytes - part_bytes) : -ENOBUFS;
}

int PagePipe::splice_in(int fd, uint64_t offset, size_t length_bytes) {
  auto at = static_cast<off_t>(offset);
  while (length_bytes_ < length_bytes) {
    const ssize_t put =
        splice(fd, &at, write_end_, nullptr, length_bytes - length_bytes_, SPLICE_F_NONBLOCK);
    if (put < 0 && errno == EINTR)
      continue;
    if (put <= 0)
      return put == 0 ? -ENODATA : -errno;
    length_bytes_ += static_cast<size_t>(put);
  }
  return 0;
}

ssize_t PagePipe::send(int socket, bool more) {
  ssize_t sent = 0;
  const unsigned flags = more || next_ ? SPLICE_F_MORE : 0;
  while (length_bytes_ > 0) {
    const ssize_t spliced = splice(read_end_, nullptr, socket, nullptr, length_bytes_, flags);
    if (spliced < 0 && errno == EINTR)
      continue;
    if (spliced <= 0 && sent == 0)
      return spliced == 0 ? -EPIPE : -errno;
    if (spliced <= 0)
      return sent;
    length_bytes_ -= static_cast<size_t>(spliced);
    sent += spliced;
  }
  if (!next_)
    return sent;
  const ssize_t rest = next_->send(socket, more);
  if (next_->is_empty())
    next_.reset();
  return rest >= 0 ? sent + rest : sent > 0 ? sent : rest;
}

bool PagePipe::take_out(uint8_t *data) {
  const size_t own_bytes = length_bytes_;
  if (!take_out_own(data) || (next_ && !next_->take_out(data + own_bytes)))
    return false;
  next_.reset();
  return true;
}

bool PagePipe::take_out_own(uint8_t *data) {
  while (length_bytes_ > 0) {
    const ssize_t taken = read(read_end_, data, length_bytes_);
    if (taken < 0 && errno == EINTR)
      continue;
    if (taken <= 0)
      return false;
    data += taken;
    length_bytes_ -= static_cast<size_t>(taken);
  }
  return true;
}

} // namespace asyncnbd::transport
