// See transport.hpp.
#include "transport/transport.hpp"

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "transport/page_pipe.hpp"

namespace asyncnbd::transport {

namespace {

constexpr int LINGER_MS = 1000;
constexpr int SEND_PATIENCE_MS = 1000;
constexpr size_t LINGER_BYTES = 64u << 20;
// The system's own structures for a reference count too: less than this fraction of what it refers
// to.
constexpr size_t REFERENCE_COST = 8;

} // namespace

bool is_socket(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

static bool is_unix_socket(int fd) {
  int domain;
  socklen_t length = sizeof domain;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

static size_t send_buffer_bytes(int socket) {
  int bytes;
  socklen_t length = sizeof bytes;
  return getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, &length) == 0 && bytes > 0
             ? static_cast<size_t>(bytes)
             : 0;
}

bool set_nonblocking(int fd, bool nonblocking) {
  int flags = fcntl(fd, F_GETFL);
  if (flags == -1)
    return false;
  int wanted = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  return wanted == flags || fcntl(fd, F_SETFL, wanted) == 0;
}

// How long a blocking send waits for room; 0: for ever.
static void set_send_patience(int socket, int timeout_ms) {
  const timeval timeout{timeout_ms / 1000, timeout_ms % 1000 * 1000L};
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
}

Transport::Transport(PagePipes &pipes, int in_fd, int out_fd, int stop_fd,
                     std::unique_ptr<SecureStream> secure)
    : pipes_(pipes), in_fd_(in_fd), out_fd_(out_fd), stop_fd_(stop_fd),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      is_socket_(is_socket(in_fd) && is_socket(out_fd)), is_local_(is_unix_socket(out_fd)),
      buffer_bytes_(is_local_ ? send_buffer_bytes(out_fd) : 0), secure_(std::move(secure)) {
  // Sends on a socket block, which wakes this thread less often than poll would; receives use
  // MSG_DONTWAIT. Pipes have no such flag.
  set_nonblocking(in_fd, !is_socket_);
  set_nonblocking(out_fd, !is_socket_);
  if (is_socket_)
    set_send_patience(out_fd_, SEND_PATIENCE_MS);
  else
    abort_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

Transport::~Transport() {
  close(false);
  if (wake_fd_ != -1)
    ::close(wake_fd_);
}

ssize_t Transport::receive(void *data, size_t capacity_bytes, iovec next) {
  if (secure_)
    return secure_->receive(*this, data, capacity_bytes);
  if (next.iov_len > 0 && is_socket_)
    return receive_both({data, capacity_bytes}, next);
  return receive_raw(data, capacity_bytes);
}

ssize_t Transport::receive_both(iovec first, iovec next) {
  iovec buffers[2] = {first, next};
  msghdr message{};
  message.msg_iov = buffers;
  message.msg_iovlen = 2;
  for (;;) {
    if (is_aborted())
      return -ECONNABORTED;
    const ssize_t received = recvmsg(in_fd_, &message, MSG_DONTWAIT);
    if (received >= 0)
      return received;
    if (errno != EINTR)
      return -errno;
  }
}

ssize_t Transport::receive_raw(void *data, size_t capacity_bytes) {
  for (;;) {
    if (is_aborted())
      return -ECONNABORTED;
    ssize_t received = is_socket_ ? recv(in_fd_, data, capacity_bytes, MSG_DONTWAIT)
                                  : read(in_fd_, data, capacity_bytes);
    if (received >= 0)
      return received;
    if (errno != EINTR)
      return -errno;
  }
}

ssize_t Transport::receive_pages(PagePipe &pages, size_t capacity_bytes) {
  if (is_aborted())
    return -ECONNABORTED;
  // From a TCP socket, splice waits for input despite its flags, unless the socket is nonblocking.
  const bool returns_at_once = is_local_ && in_fd_ == out_fd_;
  return returns_at_once || has_input() ? pages.put_arrived(in_fd_, capacity_bytes) : -EAGAIN;
}

bool Transport::has_input() const {
  pollfd end{in_fd_, POLLIN, 0};
  // POLLERR alone may be a message about what was sent.
  return poll(&end, 1, 0) == 1 && (end.revents & (POLLIN | POLLHUP)) != 0;
}

Wait Transport::wait(Wanted wanted, int timeout_ms, bool heed_hang_up) {
  // Bytes may precede the end of a pipe; only reading tells.
  const bool looks_at_input = wanted.input || (heed_hang_up && is_socket_);
  // poll ignores descriptors that are -1.
  pollfd ends[] = {{looks_at_input ? in_fd_ : -1, static_cast<short>(wanted.input ? POLLIN : 0), 0},
                   {wanted.stop ? stop_fd_ : -1, POLLIN, 0},
                   {wanted.room ? out_fd_ : -1, POLLOUT, 0},
                   {wake_fd_, POLLIN, 0},
                   {abort_fd_, POLLIN, 0}};
  int ready = poll(ends, 5, timeout_ms);
  if (ready == 0)
    return Wait::timed_out;
  if (ready < 0) // EINTR: the caller looks again
    return Wait::woken;
  if (ends[3].revents != 0) {
    uint64_t wakes;
    (void)!read(wake_fd_, &wakes, sizeof wakes); // nothing to read if another wait was faster
  }
  if (ends[0].revents != 0)
    return wanted.input ? Wait::readable : Wait::hung_up;
  if (ends[1].revents != 0)
    return Wait::stopping;
  return ends[2].revents != 0 ? Wait::writable : Wait::woken; // woken after an abort too
}

void Transport::wake() {
  uint64_t one = 1;
  (void)!write(wake_fd_, &one, sizeof one); // a full counter is readable already
}

size_t Transport::unread_bytes() const {
  std::lock_guard lock(closing_);
  int unread = 0;
  return is_local_ && out_fd_ != -1 && ioctl(out_fd_, SIOCOUTQ, &unread) == 0
             ? static_cast<size_t>(unread)
             : 0;
}

bool Transport::has_room_for_references(size_t length_bytes) const {
  if (!can_move_pages())
    return false;
  std::lock_guard lock(closing_);
  int queued = 0;
  if (out_fd_ == -1 || ioctl(out_fd_, SIOCOUTQ, &queued) == -1)
    return false;
  // The system counts its own structures, too. Of TCP it tells only the bytes.
  const size_t needed_bytes = length_bytes + length_bytes / REFERENCE_COST;
  const auto queued_bytes = static_cast<size_t>(queued);
  return is_local_ ? queued_bytes + needed_bytes <= buffer_bytes_
                   : 2 * queued_bytes + needed_bytes <= send_buffer_bytes(out_fd_);
}

bool Transport::has_room() const {
  pollfd end{out_fd_, POLLOUT, 0};
  return poll(&end, 1, 0) == 1;
}

bool Transport::wait_writable(int timeout_ms) const {
  pollfd ends[] = {{out_fd_, POLLOUT, 0}, {abort_fd_, POLLIN, 0}};
  return poll(ends, 2, timeout_ms) != 0;
}

void Transport::wait_for_room(int timeout_ms) const {
  wait_writable(timeout_ms);
}

ssize_t Transport::send(const iovec *buffers, size_t count, bool may_block, bool more) {
  return secure_ ? secure_->send(*this, buffers, count, may_block)
                 : send_with(buffers, count, may_block, more ? MSG_MORE : 0);
}

ssize_t Transport::send_pages(const uint8_t *data, size_t length_bytes) {
  PagePipe::Owner pipe;
  if (can_move_pages() && !is_aborted() && pipes_.can_take_memory())
    pipe = pipes_.take(PagePipe::For::sending);
  size_t sent_bytes = 0;
  while (pipe && sent_bytes < length_bytes) {
    const ssize_t put = pipe->put_memory(data + sent_bytes, length_bytes - sent_bytes);
    if (put <= 0)
      break;
    const ssize_t sent = pipe->send(out_fd_, sent_bytes + static_cast<size_t>(put) < length_bytes);
    if (sent < put)
      return sent_in_all(static_cast<ssize_t>(sent_bytes), sent);
    sent_bytes += static_cast<size_t>(sent);
  }
  if (sent_bytes > 0)
    return static_cast<ssize_t>(sent_bytes);
  const iovec buffer{const_cast<uint8_t *>(data), length_bytes};
  return send(&buffer, 1, true);
}

ssize_t Transport::send_pages(PagePipe &pages) {
  return is_aborted() ? -EPIPE : pages.send(out_fd_, false);
}

ssize_t Transport::send_raw(const iovec *buffers, size_t count, bool may_block) {
  return send_with(buffers, count, may_block, 0);
}

ssize_t Transport::send_with(const iovec *buffers, size_t count, bool may_block, int more) {
  for (;;) {
    if (is_aborted())
      return -ECONNABORTED;
    msghdr message{};
    message.msg_iov = const_cast<iovec *>(buffers);
    message.msg_iovlen = count;
    const int flags = MSG_NOSIGNAL | more | (may_block ? 0 : MSG_DONTWAIT);
    ssize_t sent = is_socket_ ? sendmsg(out_fd_, &message, flags)
                              : writev(out_fd_, buffers, static_cast<int>(count));
    if (sent >= 0)
      return sent;
    // A socket's send has already waited.
    const bool again = errno == EINTR || (errno == EAGAIN && may_block && !is_socket_ &&
                                          wait_writable(SEND_PATIENCE_MS));
    if (!again)
      return -errno;
  }
}

void Transport::abort() {
  std::lock_guard lock(closing_);
  aborted_.store(true, std::memory_order_relaxed);
  if (in_fd_ == -1)
    return;
  if (is_socket_) {
    shutdown(in_fd_, SHUT_RDWR);
    if (out_fd_ != in_fd_)
      shutdown(out_fd_, SHUT_RDWR);
  } else if (abort_fd_ != -1) {
    uint64_t one = 1;
    (void)!write(abort_fd_, &one, sizeof one); // a full counter is readable already
  }
}

// Reads what the peer still sends until it closes its end, within limits.
void Transport::drain() {
  using clock = std::chrono::steady_clock;
  const clock::time_point deadline = clock::now() + std::chrono::milliseconds(LINGER_MS);
  char scrap[64 << 10];
  for (size_t drained = 0; drained < LINGER_BYTES;) {
    ssize_t received = receive_raw(scrap, sizeof scrap);
    if (received == 0 || (received < 0 && received != -EAGAIN))
      return;
    drained += received > 0 ? static_cast<size_t>(received) : 0;
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now());
    if (left.count() <= 0)
      return;
    if (received == -EAGAIN &&
        wait({.input = true}, static_cast<int>(left.count())) == Wait::timed_out)
      return;
  }
}

void Transport::close(bool linger) {
  if (in_fd_ == -1)
    return;
  if (secure_ && !is_aborted())
    secure_->say_goodbye(*this);
  if (linger && is_socket_ && !aborted_.load(std::memory_order_relaxed) &&
      shutdown(out_fd_, SHUT_WR) == 0)
    drain();
  std::lock_guard lock(closing_);
  // A pipe of --single is shared with the process that started us: restore its mode.
  if (!is_socket_) {
    set_nonblocking(in_fd_, false);
    set_nonblocking(out_fd_, false);
  } else {
    set_send_patience(out_fd_, 0); // as is a socket of --single
  }
  if (out_fd_ != in_fd_)
    ::close(out_fd_);
  ::close(in_fd_);
  in_fd_ = out_fd_ = -1;
  if (abort_fd_ != -1)
    ::close(abort_fd_);
  abort_fd_ = -1;
}

} // namespace asyncnbd::transport
