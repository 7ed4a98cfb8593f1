// Exact reads, skips and writes on a descriptor that must not block: what the handshake needs.
// It knows no event loop; whoever owns one calls advance when the descriptor is ready.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace asyncnbd::transport {

enum class Progress { done, wants_input, wants_output, ended, failed };

// Holds one operation at a time, and reads no byte more than asked for, so that nothing of the
// transmission phase is ever swallowed.
class HandshakeIo {
public:
  // Does not own the descriptors; they must be non-blocking.
  HandshakeIo(int in_fd, int out_fd);

  void begin_read(size_t bytes);
  void begin_skip(uint64_t bytes);
  void begin_write(std::vector<uint8_t> data);

  // Goes on with the operation as far as the descriptor allows. `ended`: the peer closed the
  // stream. `failed`: error() tells why.
  Progress advance();

  // What begin_read asked for, once it is done.
  std::vector<uint8_t> take_data() { return std::move(data_); }
  int error() const { return error_; }

private:
  Progress advance_input();
  Progress advance_output();

  enum class Operation { none, read, skip, write };
  const int in_fd_;
  const int out_fd_;
  const bool is_socket_;
  Operation operation_ = Operation::none;
  std::vector<uint8_t> data_;
  uint64_t position_ = 0;
  uint64_t length_bytes_ = 0;
  int error_ = 0;
};

} // namespace asyncnbd::transport
