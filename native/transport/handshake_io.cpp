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
  data_.assign(bytes, 0);
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

Progress HandshakeIo::advance() {
  Progress progress = operation_ == Operation::write ? advance_output() : advance_input();
  if (progress == Progress::done || progress == Progress::ended || progress == Progress::failed)
    operation_ = Operation::none;
  return progress;
}

Progress HandshakeIo::advance_input() {
  uint8_t scrap[16 << 10];
  while (position_ < length_bytes_) {
    uint64_t missing = length_bytes_ - position_;
    bool skipping = operation_ == Operation::skip;
    void *target = skipping ? scrap : data_.data() + position_;
    size_t wanted = skipping ? std::min<uint64_t>(missing, sizeof scrap) : missing;
    ssize_t received = read(in_fd_, target, wanted);
    if (received == 0)
      return Progress::ended;
    if (received == -1 && errno == EINTR)
      continue;
    if (received == -1 && errno == EAGAIN)
      return Progress::wants_input;
    if (received == -1) {
      error_ = errno;
      return Progress::failed;
    }
    position_ += static_cast<uint64_t>(received);
  }
  return Progress::done;
}

Progress HandshakeIo::advance_output() {
  while (position_ < length_bytes_) {
    const uint8_t *from = data_.data() + position_;
    size_t wanted = length_bytes_ - position_;
    ssize_t sent =
        is_socket_ ? ::send(out_fd_, from, wanted, MSG_NOSIGNAL) : ::write(out_fd_, from, wanted);
    if (sent == -1 && errno == EINTR)
      continue;
    if (sent == -1 && errno == EAGAIN)
      return Progress::wants_output;
    if (sent == -1) {
      error_ = errno;
      return Progress::failed;
    }
    position_ += static_cast<uint64_t>(sent);
  }
  return Progress::done;
}

} // namespace asyncnbd::transport
