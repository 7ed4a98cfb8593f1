/* A client that keeps a number of random reads in flight, and counts: load SOCKET BYTES DEPTH
 * SECONDS
 *
 * One thread that asks and receives in batches, so that it is the server that is measured: fio's
 * nbd engine is at its own limit at about 150,000 requests a second. Prints one JSON object.
 */

#define _GNU_SOURCE

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define HEADER_BYTES 28
#define REPLY_BYTES 16
#define BUFFER_BYTES (1 << 20)
#define MAX_DEPTH 4096

static int fd;
static uint8_t buffer[BUFFER_BYTES];
static uint64_t started_ns[MAX_DEPTH];
static uint64_t *latencies_ns;
static size_t latency_count = 0;
static size_t latency_capacity = 1 << 20;

static void fail(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t random_number(void) {
  static uint64_t state = 88172645463325252;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static void send_all(const void *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t sent = send(fd, data, bytes, MSG_NOSIGNAL);
    if (sent == -1)
      fail("send");
    data = (const uint8_t *)data + sent;
    bytes -= (size_t)sent;
  }
}

static void receive_all(void *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t received = recv(fd, data, bytes, 0);
    if (received <= 0)
      fail("the server has closed the connection");
    data = (uint8_t *)data + received;
    bytes -= (size_t)received;
  }
}

static void connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd == -1 || connect(fd, (struct sockaddr *)&address, sizeof address) == -1)
    fail(path);
}

/* By NBD_OPT_EXPORT_NAME. Returns the export's size in bytes. */
static uint64_t handshake(void) {
  uint8_t greeting[18];
  receive_all(greeting, sizeof greeting);
  uint8_t choice[20] = {0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 1};
  send_all(choice, sizeof choice);
  uint8_t facts[10];
  receive_all(facts, sizeof facts);
  uint64_t size;
  memcpy(&size, facts, sizeof size);
  return be64toh(size);
}

static void encode_read(uint8_t *header, uint64_t cookie, uint64_t offset, uint32_t length) {
  const uint32_t magic = htobe32(0x25609513);
  offset = htobe64(offset);
  length = htobe32(length);
  memcpy(header, &magic, 4);
  memset(header + 4, 0, 4);
  memcpy(header + 8, &cookie, 8);
  memcpy(header + 16, &offset, 8);
  memcpy(header + 24, &length, 4);
}

static void record(uint64_t latency_ns) {
  if (latency_count == latency_capacity) {
    latency_capacity *= 2;
    latencies_ns = realloc(latencies_ns, latency_capacity * sizeof *latencies_ns);
    if (latencies_ns == NULL)
      fail("memory");
  }
  latencies_ns[latency_count++] = latency_ns;
}

/* Asks for one block under each of the cookies. */
static void ask(const uint32_t *cookies, size_t count, uint64_t blocks, uint32_t bytes) {
  static uint8_t headers[MAX_DEPTH * HEADER_BYTES];
  const uint64_t now = now_ns();
  for (size_t i = 0; i < count; i++) {
    encode_read(headers + i * HEADER_BYTES, cookies[i], random_number() % blocks * bytes, bytes);
    started_ns[cookies[i]] = now;
  }
  send_all(headers, count * HEADER_BYTES);
}

/* Receives what there is; collects the cookies of complete replies. */
static size_t collect(uint32_t *cookies, uint32_t bytes) {
  static size_t filled = 0;
  size_t count = 0;
  const size_t reply_bytes = REPLY_BYTES + bytes;
  do {
    ssize_t received = recv(fd, buffer + filled, sizeof buffer - filled, 0);
    if (received <= 0)
      fail("the server has closed the connection");
    filled += (size_t)received;
  } while (filled < reply_bytes);
  const uint64_t now = now_ns();
  size_t at = 0;
  for (; filled - at >= reply_bytes; at += reply_bytes) {
    uint32_t error;
    uint64_t cookie;
    memcpy(&error, buffer + at + 4, 4);
    memcpy(&cookie, buffer + at + 8, 8);
    if (error != 0) {
      fprintf(stderr, "load: a read failed with NBD error %" PRIu32 "\n", be32toh(error));
      exit(1);
    }
    record(now - started_ns[cookie]);
    cookies[count++] = (uint32_t)cookie;
  }
  memmove(buffer, buffer + at, filled - at);
  filled -= at;
  return count;
}

/* Leaves in order, the replies outstanding received: some servers do not bear it otherwise. */
static void disconnect(size_t outstanding, uint32_t bytes) {
  static uint32_t cookies[MAX_DEPTH];
  while (outstanding > 0)
    outstanding -= collect(cookies, bytes);
  uint8_t header[HEADER_BYTES];
  encode_read(header, 0, 0, 0);
  header[7] = 2; /* NBD_CMD_DISC */
  send_all(header, sizeof header);
  close(fd);
}

static int by_value(const void *a, const void *b) {
  const uint64_t left = *(const uint64_t *)a;
  const uint64_t right = *(const uint64_t *)b;
  return (left > right) - (left < right);
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: load SOCKET BYTES DEPTH SECONDS\n");
    return 1;
  }
  const uint32_t bytes = (uint32_t)strtoul(argv[2], NULL, 10);
  const size_t depth = strtoul(argv[3], NULL, 10);
  const double seconds = strtod(argv[4], NULL);
  if (depth == 0 || depth > MAX_DEPTH || bytes == 0 || bytes > BUFFER_BYTES / 2) {
    fprintf(stderr, "load: depth up to %d, blocks up to %d bytes\n", MAX_DEPTH, BUFFER_BYTES / 2);
    return 1;
  }
  latencies_ns = malloc(latency_capacity * sizeof *latencies_ns);
  if (latencies_ns == NULL)
    fail("memory");
  connect_to(argv[1]);
  const uint64_t blocks = handshake() / bytes;

  uint32_t cookies[MAX_DEPTH];
  for (uint32_t i = 0; i < depth; i++)
    cookies[i] = i;
  const uint64_t begin = now_ns();
  const uint64_t end = begin + (uint64_t)(seconds * 1e9);
  ask(cookies, depth, blocks, bytes);
  uint64_t now;
  while ((now = now_ns()) < end)
    ask(cookies, collect(cookies, bytes), blocks, bytes);
  const size_t counted = latency_count;
  disconnect(depth, bytes);

  qsort(latencies_ns, counted, sizeof *latencies_ns, by_value);
  printf("{\"requests\":%zu,\"seconds\":%.6f,\"p50Us\":%.1f,\"p99Us\":%.1f}\n", counted,
         (double)(now - begin) / 1e9, (double)latencies_ns[counted / 2] / 1e3,
         (double)latencies_ns[counted * 99 / 100] / 1e3);
  return 0;
}
