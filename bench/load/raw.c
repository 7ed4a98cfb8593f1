/* See raw.h. */
#include "raw.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "clock.h"
#include "connection.h"
#include "options.h"

#define REGION_BYTES                                                                               \
  (256u << 20) /* as large as the disks of the benchmarks, so as badly cached                      \
                */
#define SOCKET_BUFFER_BYTES (4 << 20)
#define SCRATCH_BYTES (256 << 10)

/* Sends block after block until nobody receives any more. */
_Noreturn static void send_region(int fd) {
  uint8_t *region = malloc(REGION_BYTES);
  const int buffer_bytes = SOCKET_BUFFER_BYTES;
  if (region == NULL)
    fail("memory");
  memset(region, 0x5a, REGION_BYTES);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
  const size_t blocks = REGION_BYTES / options.block_bytes;
  for (size_t i = 0;; i = (i + 1) % blocks)
    for (size_t sent = 0; sent < options.block_bytes;) {
      const ssize_t part = send(fd, region + i * options.block_bytes + sent,
                                options.block_bytes - sent, MSG_NOSIGNAL);
      if (part == -1)
        _exit(0);
      sent += (size_t)part;
    }
}

static void receive_until(int fd, uint64_t end, uint64_t *received) {
  static uint8_t scratch[SCRATCH_BYTES];
  while (now_ns() < end) {
    const ssize_t part = recv(fd, scratch, sizeof scratch, 0);
    if (part <= 0)
      fail("the sender has gone");
    *received += (uint64_t)part;
  }
}

void raw_run(void) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == -1)
    fail("socketpair");
  const pid_t sender = fork();
  if (sender == -1)
    fail("fork");
  if (sender == 0) {
    close(ends[0]);
    send_region(ends[1]);
  }
  close(ends[1]);
  uint64_t warm = 0;
  uint64_t received = 0;
  receive_until(ends[0], now_ns() + (uint64_t)(options.warm_up_seconds * 1e9), &warm);
  const uint64_t begin = now_ns();
  receive_until(ends[0], begin + (uint64_t)(options.seconds * 1e9), &received);
  results.seconds = (double)(now_ns() - begin) / 1e9;
  results.latencies.total = received / options.block_bytes;
  close(ends[0]);
  kill(sender, SIGTERM);
  waitpid(sender, NULL, 0);
}
