/* What to do, from the command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "connection.h"

enum mode {
  MODE_REQUESTS, /* the usual: requests on connections that stay open */
  MODE_IDLE,     /* connections without requests */
  MODE_CHURN,    /* connections that open, ask once and leave */
  MODE_RAW,      /* no server at all: what the socket itself can carry */
  MODE_BARE      /* neither, but each block is asked for, as of a server */
};

struct options {
  enum mode mode;
  const char *where; /* a socket's path, or a TCP port of this machine */
  const char *export_name;
  uint32_t block_bytes;
  size_t depth; /* requests in flight on each connection */
  size_t connections;
  unsigned read_percent;
  enum command others; /* than reads */
  bool is_sequential;
  bool verifies;
  bool is_structured;
  bool is_encrypted;
  double warm_up_seconds;
  double seconds;
  uint64_t count; /* of requests, then it is over; 0: as many as there is time for */
  pid_t server;   /* whose processor time is wanted, or 0 */
  bool bare_is_tcp;
  const char *bare_file; /* that has the blocks, or NULL: memory */
};

extern struct options options;

/* Ends the program where they are wrong. */
void parse_options(int argc, char **argv);

#endif
