/* See clock.h. */
#include "clock.h"

#include <time.h>

#include "options.h"

uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static double seconds_of(clockid_t clock) {
  struct timespec now;
  return clock_gettime(clock, &now) == 0 ? (double)now.tv_sec + (double)now.tv_nsec / 1e9 : 0;
}

struct times times_now(void) {
  clockid_t server;
  struct times times = {0, seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
  if (options.server != 0 && clock_getcpuclockid(options.server, &server) == 0)
    times.server_seconds = seconds_of(server);
  return times;
}
