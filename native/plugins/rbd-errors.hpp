// What a client of NBD, and the operator, can be told of an error of librbd's.
#ifndef ASYNCNBD_RBD_ERRORS_HPP
#define ASYNCNBD_RBD_ERRORS_HPP

#include <cerrno>
#include <string>
#include <sys/types.h>

namespace rbd {

/// Why something cannot be had. Others than the thread that has found out may have to say so.
struct Refusal {
  std::string words;
  int error = 0; // for the client
};

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
