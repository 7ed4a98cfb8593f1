// See page_pipe.hpp.
#include "transport/page_pipe.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/invariant.hpp"
#include "transport/sigpipe.hpp"

namespace asyncnbd::transport {

namespace {

// The most that an unprivileged process may have.
constexpr int PIPE_BYTES = 1 << 20;
// Less is not worth it: a user who already has many pipes gets no more than two pages.
constexpr size_t MIN_ROOM_BYTES = 64 << 10;
// Half of what an unprivileged user may have in all of his processes, and enough for what a client
// may read at once.
constexpr size_t MAX_PIPES = 32;
constexpr size_t MAX_RECEIVING = MAX_PIPES / 2;
constexpr size_t MAX_KEPT = 16;

const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// splice(2), again if a signal has interrupted it. Returns the number of bytes or a negative errno.
ssize_t move_pages(int from, off_t *from_offset, int to, off_t *to_offset, size_t length_bytes,
                   unsigned flags) {
  for (;;) {
    const ssize_t moved = splice(from, from_offset, to, to_offset, length_bytes, flags);
    if (moved >= 0)
      return moved;
    if (errno != EINTR)
      return -errno;
  }
}

} // namespace

PagePipe *PagePipe::open(PagePipes &pipes) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) == -1)
    return nullptr;
  auto *pipe = new PagePipe(pipes, ends[0], ends[1]);
  fcntl(pipe->write_end_, F_SETPIPE_SZ, PIPE_BYTES);
  const int room_bytes = fcntl(pipe->write_end_, F_GETPIPE_SZ);
  pipe->pages_ = room_bytes > 0 ? static_cast<size_t>(room_bytes) / page_bytes : 0;
  if (pipe->room_bytes() >= MIN_ROOM_BYTES)
    return pipe;
  delete pipe;
  return nullptr;
}

size_t PagePipe::room_bytes() const {
  return pages_ * page_bytes;
}

PagePipe::~PagePipe() {
  ::close(read_end_);
  ::close(write_end_);
}

PagePipe::Owner PagePipes::take(PagePipe::For purpose) {
  const size_t receiving = purpose == PagePipe::For::receiving ? 1 : 0;
  PagePipe *pipe = nullptr;
  {
    std::lock_guard lock(mutex_);
    const bool is_new = kept_.empty();
    if ((is_new && count_ == MAX_PIPES) || receiving_ + receiving > MAX_RECEIVING)
      return nullptr;
    receiving_ += receiving;
    if (is_new) {
      count_++;
    } else {
      pipe = kept_.back();
      kept_.pop_back();
    }
  }
  if (pipe == nullptr)
    pipe = PagePipe::open(*this);
  if (pipe != nullptr) {
    pipe->purpose_ = purpose;
    return PagePipe::Owner(pipe);
  }
  std::lock_guard lock(mutex_);
  count_--;
  receiving_ -= receiving;
  return nullptr;
}

void PagePipe::Returner::operator()(PagePipe *pipe) const {
  pipe->next_.reset();
  pipe->pipes_.put(pipe);
}

void PagePipes::put(PagePipe *pipe) {
  {
    std::lock_guard lock(mutex_);
    receiving_ -= pipe->purpose_ == PagePipe::For::receiving ? 1 : 0;
    if (pipe->length_bytes_ == 0 && kept_.size() < MAX_KEPT) {
      kept_.push_back(pipe);
      return;
    }
    count_--;
  }
  delete pipe;
}

void PagePipes::close_kept() {
  std::lock_guard lock(mutex_);
  for (PagePipe *pipe : kept_)
    delete pipe;
  base::invariant(kept_.size() <= count_, "a pipe that is kept was counted");
  count_ -= kept_.size();
  kept_.clear();
}

ssize_t PagePipe::put_memory(const uint8_t *data, size_t length_bytes) {
  const iovec memory{const_cast<uint8_t *>(data), length_bytes};
  const ssize_t put = vmsplice(write_end_, &memory, 1, SPLICE_F_NONBLOCK);
  if (put < 0) {
    const int error = errno;
    if (error == EPERM || error == ENOSYS || error == EINVAL)
      pipes_.can_take_memory_.store(false, std::memory_order_relaxed);
    return -error;
  }
  length_bytes_ += static_cast<size_t>(put);
  return put;
}

int PagePipe::put_file(int fd, uint64_t offset, size_t length_bytes) {
  if (!chain(offset % page_bytes + length_bytes))
    return -ENOBUFS;
  for (PagePipe *pipe = this; length_bytes > 0; pipe = pipe->next_.get()) {
    const size_t part_bytes =
        std::min<size_t>(length_bytes, pipe->room_bytes() - offset % page_bytes);
    if (const int error = pipe->splice_in(fd, offset, part_bytes))
      return error;
    offset += part_bytes;
    length_bytes -= part_bytes;
  }
  return 0;
}

// Takes as many pipes as are needed, before anything is read in vain.
bool PagePipe::chain(size_t length_bytes) {
  for (PagePipe *pipe = this; length_bytes > pipe->room_bytes(); pipe = pipe->next_.get()) {
    length_bytes -= pipe->room_bytes();
    pipe->next_ = pipes_.take(For::sending);
    if (!pipe->next_)
      return false;
  }
  return true;
}

int PagePipe::splice_in(int fd, uint64_t offset, size_t length_bytes) {
  auto at = static_cast<off_t>(offset);
  while (length_bytes_ < length_bytes) {
    const ssize_t put =
        move_pages(fd, &at, write_end_, nullptr, length_bytes - length_bytes_, SPLICE_F_NONBLOCK);
    if (put <= 0)
      return put == 0 ? -ENODATA : static_cast<int>(put);
    length_bytes_ += static_cast<size_t>(put);
  }
  return 0;
}

// Each slot of the pipe holds a page or less, depending on how the bytes arrived.
bool PagePipe::has_room() const {
  pollfd end{write_end_, POLLOUT, 0};
  return poll(&end, 1, 0) == 1;
}

ssize_t PagePipe::put_arrived(int socket, size_t capacity_bytes) {
  const ssize_t put =
      move_pages(socket, nullptr, write_end_, nullptr, capacity_bytes, SPLICE_F_NONBLOCK);
  if (put > 0) {
    length_bytes_ += static_cast<size_t>(put);
    return put;
  }
  // 0 is not always the stream's end: TCP's urgent data may be next.
  const bool is_waiting = put == -EAGAIN && (length_bytes_ == 0 || has_room());
  return is_waiting ? -EAGAIN : -ENOBUFS;
}

size_t PagePipe::write_file(int fd, uint64_t offset) {
  auto at = static_cast<off_t>(offset);
  while (length_bytes_ > 0) {
    const ssize_t written = move_pages(read_end_, nullptr, fd, &at, length_bytes_, 0);
    if (written <= 0)
      break;
    length_bytes_ -= static_cast<size_t>(written);
  }
  return static_cast<size_t>(at) - offset;
}

ssize_t PagePipe::send(int socket, bool more) {
  SigpipeGuard guard; // splice has no MSG_NOSIGNAL
  return send_guarded(guard, socket, more);
}

ssize_t PagePipe::send_guarded(SigpipeGuard &guard, int socket, bool more) {
  ssize_t sent = 0;
  const unsigned flags = more || next_ ? SPLICE_F_MORE : 0;
  while (length_bytes_ > 0) {
    const ssize_t spliced =
        guard.saw(move_pages(read_end_, nullptr, socket, nullptr, length_bytes_, flags));
    if (spliced <= 0)
      return sent_in_all(sent, spliced == 0 ? -EPIPE : spliced);
    length_bytes_ -= static_cast<size_t>(spliced);
    sent += spliced;
  }
  if (!next_)
    return sent;
  const ssize_t rest = next_->send_guarded(guard, socket, more);
  if (next_->is_empty())
    next_.reset();
  return sent_in_all(sent, rest);
}

size_t PagePipe::take_out(uint8_t *data) {
  size_t taken_bytes = 0;
  for (PagePipe *pipe = this; pipe != nullptr; pipe = pipe->next_.get())
    while (pipe->length_bytes_ > 0) {
      const ssize_t taken = read(pipe->read_end_, data + taken_bytes, pipe->length_bytes_);
      if (taken < 0 && errno == EINTR)
        continue;
      if (taken <= 0)
        return taken_bytes;
      taken_bytes += static_cast<size_t>(taken);
      pipe->length_bytes_ -= static_cast<size_t>(taken);
    }
  next_.reset();
  return taken_bytes;
}

} // namespace asyncnbd::transport
