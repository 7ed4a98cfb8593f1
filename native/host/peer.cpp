// nbdkit_peer_*: who the client of the connection is.
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>

#include "host/abi.hpp"
#include "host/context.hpp"

using namespace asyncnbd::host;

namespace {

int peer_socket(const char *function) {
  CallContext *context = current_context();
  const int fd = context != nullptr ? context->peer_fd.load() : -1;
  if (fd == -1) {
    nbdkit_error("%s: not called from a connection", function);
    errno = ENOTCONN;
    return -1;
  }
  return fd;
}

// The peer's credentials (unix sockets only), taken when it connected.
bool peer_credentials(const char *function, struct ucred *credentials) {
  int fd = peer_socket(function);
  if (fd == -1)
    return false;
  int domain = AF_UNSPEC;
  socklen_t length = sizeof domain;
  // Linux answers SO_PEERCRED for other sockets too, with meaningless numbers.
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == -1 || domain != AF_UNIX) {
    nbdkit_error("%s: only supported on unix sockets", function);
    errno = ENOTSUP;
    return false;
  }
  length = sizeof *credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, &length) == -1) {
    nbdkit_error("%s: cannot read the peer's credentials: %m", function);
    return false;
  }
  return true;
}

// From the verified certificate; empty if there is none.
char *tls_name(const char *function, std::string CallContext::*name) {
  if (peer_socket(function) == -1)
    return nullptr;
  return strdup((current_context()->*name).c_str());
}

} // namespace

extern "C" {

NBDKIT_DLL_PUBLIC int nbdkit_peer_name(struct sockaddr *addr, socklen_t *addrlen) {
  int fd = peer_socket("nbdkit_peer_name");
  if (fd == -1)
    return -1;
  if (getpeername(fd, addr, addrlen) == -1) {
    nbdkit_error("nbdkit_peer_name: %m");
    return -1;
  }
  return 0;
}

NBDKIT_DLL_PUBLIC int64_t nbdkit_peer_pid(void) {
  struct ucred credentials;
  return peer_credentials("nbdkit_peer_pid", &credentials) ? credentials.pid : -1;
}

NBDKIT_DLL_PUBLIC int64_t nbdkit_peer_uid(void) {
  struct ucred credentials;
  return peer_credentials("nbdkit_peer_uid", &credentials) ? credentials.uid : -1;
}

NBDKIT_DLL_PUBLIC int64_t nbdkit_peer_gid(void) {
  struct ucred credentials;
  return peer_credentials("nbdkit_peer_gid", &credentials) ? credentials.gid : -1;
}

NBDKIT_DLL_PUBLIC char *nbdkit_peer_security_context(void) {
  int fd = peer_socket("nbdkit_peer_security_context");
  if (fd == -1)
    return nullptr;
  socklen_t length = 0;
  // The first call only returns the length.
  if (getsockopt(fd, SOL_SOCKET, SO_PEERSEC, nullptr, &length) == -1 && errno != ERANGE) {
    nbdkit_error("nbdkit_peer_security_context: the system knows none: %m");
    return nullptr;
  }
  auto *text = static_cast<char *>(calloc(length + 1, 1));
  if (text == nullptr || getsockopt(fd, SOL_SOCKET, SO_PEERSEC, text, &length) == -1) {
    nbdkit_error("nbdkit_peer_security_context: %m");
    free(text);
    return nullptr;
  }
  return text;
}

NBDKIT_DLL_PUBLIC char *nbdkit_peer_tls_dn(void) {
  return tls_name("nbdkit_peer_tls_dn", &CallContext::tls_peer_name);
}

NBDKIT_DLL_PUBLIC char *nbdkit_peer_tls_issuer_dn(void) {
  return tls_name("nbdkit_peer_tls_issuer_dn", &CallContext::tls_issuer_name);
}

} // extern "C"
