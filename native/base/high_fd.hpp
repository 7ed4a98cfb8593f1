// Descriptors that we keep: of two digits, because plugins and the shells that they start may need
// the others.
#pragma once

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace asyncnbd::base {

// Closed at exec. -1, with errno, on failure.
inline int high_copy(int fd) {
  constexpr int FIRST_HIGH = 10;
  return fcntl(fd, F_DUPFD_CLOEXEC, FIRST_HIGH);
}

// Instead of `fd`, which may be -1 and is closed.
inline int moved_high(int fd) {
  if (fd == -1)
    return -1;
  const int moved = high_copy(fd);
  const int error = errno;
  ::close(fd);
  errno = error;
  return moved;
}

} // namespace asyncnbd::base
