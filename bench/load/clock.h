/* Time, and how much of the processors' this program and the server have had. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

uint64_t now_ns(void);

struct times {
  double server_seconds; /* 0 where the server is not known */
  double client_seconds;
};

struct times times_now(void);

#endif
