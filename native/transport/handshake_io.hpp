// Exact reads, skips and writes on a descriptor that must not block, for the handshake. It has no
// event loop of its own: whoever runs one calls advance when the descriptor is ready.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/secure_stream.hpp"

namespace asyncnbd::transport {

// Holds one operation at a time, and never reads more bytes than asked for, so that it never
// swallows part of the transmission phase.
class HandshakeIo final : private RawStream {
public:
  // Does not own the descriptors; they must be non-blocking.
  HandshakeIo(int in_fd, int out_fd);

  void begin_read(size_t bytes);
  void begin_skip(uint64_t bytes);
  void begin_write(std::vector<uint8_t> data);
  // From the end of the TLS handshake on, everything goes through `secure`.
  void begin_tls(std::unique_ptr<SecureStream> secure);

  // Goes on with the operation as far as the descriptor allows. `ended`: the peer closed the
  // stream. `failed`: error() tells why.
  Progress advance();

  // What begin_read asked for, once it is done.
  std::vector<uint8_t> take_data() { return std::move(data_); }
  int error() const { return error_; }

  // nullptr: nothing is encrypted.
  const SecureStream *secure() const { return secure_.get(); }
  std::unique_ptr<SecureStream> take_secure() { return std::move(secure_); }

private:
  ssize_t receive_raw(void *data, size_t capacity_bytes) override;
  ssize_t send_raw(const iovec *buffers, size_t count, bool may_block) override;
  Progress advance_input();
  Progress advance_output();

  enum class Operation { none, read, skip, write, tls };
  const int in_fd_;
  const int out_fd_;
  const bool is_socket_;
  Operation operation_ = Operation::none;
  std::vector<uint8_t> data_;
  uint64_t position_ = 0;
  uint64_t length_bytes_ = 0;
  int error_ = 0;
  std::unique_ptr<SecureStream> secure_;
};

} // namespace asyncnbd::transport
