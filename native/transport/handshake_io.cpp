// See handshake_io.hpp.
#include "transport/handshake_io.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/transport.hpp"

namespace asyncnbd::transport {

HandshakeIo::HandshakeIo(int in_fd, int out_fd)
    : in_fd_(in_fd), out_fd_(out_fd), is_socket_(is_socket(out_fd)) {}

void HandshakeIo::begin_read(size_t bytes) {
  operation_ = Operation::read;
  data_.clear();
  position_ = 0;
  length_bytes_ = bytes;
}

void HandshakeIo::begin_skip(uint64_t bytes) {
  operation_ = Operation::skip;
  position_ = 0;
  length_bytes_ = bytes;
}

void HandshakeIo::begin_write(std::vector<uint8_t> data) {
  operation_ = Operation::write;
  data_ = std::move(data);
  position_ = 0;
  length_bytes_ = data_.size();
}

void HandshakeIo::begin_tls(std::unique_ptr<SecureStream> secure) {
  operation_ = Operation::tls;
  secure_ = std::move(secure);
}

Progress HandshakeIo::advance() {
  Progress progress;
  if (operation_ == Operation::tls)
    progress = secure_->handshake(*this);
  else
    progress = operation_ == Operation::write ? advance_output() : advance_input();
  if (progress == Progress::done || progress == Progress::ended || progress == Progress::failed)
    operation_ = Operation::none;
  return progress;
}

Progress HandshakeIo::advance_input() {
  uint8_t scrap[16 << 10];
  while (position_ < length_bytes_) {
    uint64_t missing = length_bytes_ - position_;
    bool skipping = operation_ == Operation::skip;
    const size_t wanted = std::min<uint64_t>(missing, sizeof scrap);
    if (!skipping) // as it arrives: a client may never send what it announces
      data_.resize(position_ + wanted);
    void *target = skipping ? scrap : data_.data() + position_;
    const ssize_t received =
        secure_ ? secure_->receive(*this, target, wanted) : receive_raw(target, wanted);
    if (received == 0)
      return Progress::ended;
    if (received == -EAGAIN)
      return Progress::wants_input;
    if (received < 0) {
      error_ = static_cast<int>(-received);
      return Progress::failed;
    }
    position_ += static_cast<uint64_t>(received);
  }
  return Progress::done;
}

Progress HandshakeIo::advance_output() {
  while (position_ < length_bytes_) {
    const iovec rest{data_.data() + position_, length_bytes_ - position_};
    const ssize_t sent =
        secure_ ? secure_->send(*this, &rest, 1, false) : send_raw(&rest, 1, false);
    if (sent == -EAGAIN)
      return Progress::wants_output;
    if (sent < 0) {
      error_ = static_cast<int>(-sent);
      return Progress::failed;
    }
    position_ += static_cast<uint64_t>(sent);
  }
  return Progress::done;
}

ssize_t HandshakeIo::receive_raw(void *data, size_t capacity_bytes) {
  for (;;) {
    const ssize_t received = read(in_fd_, data, capacity_bytes);
    if (received >= 0)
      return received;
    if (errno != EINTR)
      return -errno;
  }
}

ssize_t HandshakeIo::send_raw(const iovec *buffers, size_t count, bool) {
  for (;;) {
    msghdr message{};
    message.msg_iov = const_cast<iovec *>(buffers);
    message.msg_iovlen = count;
    const ssize_t sent = is_socket_ ? sendmsg(out_fd_, &message, MSG_NOSIGNAL)
                                    : writev(out_fd_, buffers, static_cast<int>(count));
    if (sent >= 0)
      return sent;
    if (errno != EINTR)
      return -errno;
  }
}

} // namespace asyncnbd::transport
