// Sends memory to a socket without copying it: the kernel refers to its pages until the peer has
// received them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <sys/types.h>

namespace asyncnbd::transport {

// A thread's own.
class PagePipe {
public:
  PagePipe() = default;
  ~PagePipe();
  PagePipe(const PagePipe &) = delete;
  PagePipe &operator=(const PagePipe &) = delete;

  // Waits until the socket has taken all of it or failed. What is written to the memory before
  // the peer has received it is received, perhaps in part. Returns the number of bytes, -ENOTSUP
  // if it cannot be sent in this way, or another negative errno.
  ssize_t send(int socket, const uint8_t *data, size_t length_bytes);

private:
  bool open();
  void close();

  int read_end_ = -1;
  int write_end_ = -1;
  bool is_of_no_use_ = false;
};

} // namespace asyncnbd::transport
