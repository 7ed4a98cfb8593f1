// nbdkit_nanosleep: a sleep that ends when the client leaves or the server stops.
#include <cerrno>
#include <climits>
#include <ctime>
#include <poll.h>

#include "host/abi.hpp"
#include "host/context.hpp"

using namespace asyncnbd::host;

namespace {

constexpr long NANOSECONDS = 1000000000;

timespec after(unsigned sec, unsigned nsec) {
  timespec deadline;
  clock_gettime(CLOCK_MONOTONIC, &deadline);
  deadline.tv_sec += sec + nsec / NANOSECONDS;
  deadline.tv_nsec += nsec % NANOSECONDS;
  if (deadline.tv_nsec >= NANOSECONDS) {
    deadline.tv_sec++;
    deadline.tv_nsec -= NANOSECONDS;
  }
  return deadline;
}

// False once the deadline has passed.
bool time_left(const timespec &deadline, timespec *left) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  left->tv_sec = deadline.tv_sec - now.tv_sec;
  left->tv_nsec = deadline.tv_nsec - now.tv_nsec;
  if (left->tv_nsec < 0) {
    left->tv_sec--;
    left->tv_nsec += NANOSECONDS;
  }
  return left->tv_sec >= 0;
}

} // namespace

extern "C" NBDKIT_DLL_PUBLIC int nbdkit_nanosleep(unsigned sec, unsigned nsec) {
  if (sec >= INT_MAX) {
    nbdkit_error("nbdkit_nanosleep: %u seconds is too long", sec);
    errno = EINVAL;
    return -1;
  }
  CallContext *context = current_context();
  // poll ignores descriptors that are -1. POLLHUP and POLLERR are always reported.
  pollfd ends[] = {{context != nullptr ? context->server->stop_fd() : -1, POLLIN, 0},
                   {context != nullptr ? context->peer_fd.load() : -1, POLLRDHUP, 0}};

  const timespec deadline = after(sec, nsec);
  timespec left;
  while (time_left(deadline, &left)) {
    int ready = ppoll(ends, 2, &left, nullptr);
    if (ready > 0) {
      nbdkit_error("nbdkit_nanosleep: the %s, sleep ended early",
                   ends[0].revents != 0 ? "server is stopping" : "client disconnected");
      errno = ESHUTDOWN;
      return -1;
    }
    if (ready == -1 && errno != EINTR) {
      nbdkit_error("nbdkit_nanosleep: %m");
      return -1;
    }
  }
  return 0;
}
