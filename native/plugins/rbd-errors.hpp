// What the NBD client and the operator are told of an error from librbd.
#ifndef ASYNCNBD_RBD_ERRORS_HPP
#define ASYNCNBD_RBD_ERRORS_HPP

#include <cerrno>
#include <string>
#include <sys/types.h>

namespace rbd {

/// Why something has failed, kept until it is reported, which another thread may do.
struct Refusal {
  std::string words;
  int error = 0; // for the client
};

/// The errno for the client, from a negative result of librbd.
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
