// What a client of NBD can be told of an error of librbd's.
#ifndef ASYNCNBD_RBD_ERRORS_HPP
#define ASYNCNBD_RBD_ERRORS_HPP

#include <cerrno>
#include <sys/types.h>

namespace rbd {

/// An errno, of a result below 0.
inline int client_error(ssize_t result) {
  switch (-result) {
  case EDQUOT:
    return ENOSPC;
  case ETIMEDOUT:
  case ESHUTDOWN: // librbd: another client has fenced this one off
    return EIO;
  default:
    return static_cast<int>(-result);
  }
}

} // namespace rbd

#endif
