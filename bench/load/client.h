/* Requests in flight on connections, as many as the options say. */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdint.h>

#include "histogram.h"

struct results {
  struct histogram latencies;
  double seconds;
  double server_seconds; /* of processor time, where the server is known */
  double client_seconds; /* of ours */
  uint64_t verified;     /* reads that were compared */
  uint64_t *answered;    /* requests of each connection, or NULL: not counted */
};

extern struct results results;

void client_run(void);

/* Opens the connections, says so on standard output, and keeps them. */
void client_idle(void);

/* Counts connections: each is opened, reads one block, and leaves. */
void client_churn(void);

#endif
