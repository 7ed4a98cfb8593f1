/* A client that keeps a number of requests in flight on each of its connections, and counts:
 *   load SOCKET|PORT read|write BYTES DEPTH STREAMS WARM-UP-SECONDS SECONDS [structured|tls]
 *
 * With structured replies where that is said, as most clients ask for, else with simple ones.
 * TLS is for programs compiled with it (see load_tls.h), and trusts any certificate.
 * One thread that asks and receives in batches and keeps no data, so that it is the server that
 * is measured: fio's nbd engine is at its own limit at about 150,000 requests a second. Offsets
 * are random multiples of BYTES. Prints one JSON object.
 */

#define _GNU_SOURCE

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifdef WITH_TLS
#include "load_tls.h"
#endif

#define HEADER_BYTES 28
#define SIMPLE_REPLY_BYTES 16
#define DATA_CHUNK_BYTES 28       /* up to its data */
#define SCRATCH_BYTES (256 << 10) /* stays in the cache */
#define MAX_REQUEST_BYTES (32 << 20)
#define MAX_DEPTH 8192
#define MAX_STREAMS 64
#define MAX_DRAIN_NS UINT64_C(500000000)
#define BATCH 128 /* requests a system call may carry */

struct request {
  uint64_t offset;
  uint64_t asked_ns;
};

struct stream {
  int fd;
#ifdef WITH_TLS
  struct tls *tls; /* or NULL */
#endif
  struct request *requests; /* the cookie is the index */
  /* Requests that are not sent yet, oldest first, in a ring of `depth`. */
  uint32_t *unsent;
  size_t first_unsent;
  size_t unsent_count;
  size_t sent_of_first; /* bytes */
  /* What has arrived of a reply: its header, then data that nobody keeps. */
  uint8_t header[DATA_CHUNK_BYTES];
  size_t header_bytes;
  size_t data_left;
};

static bool writes;
static bool structured;
static bool encrypted;
static size_t reply_bytes; /* without data */
static uint32_t bytes;
static size_t depth;
static size_t stream_count;
static uint64_t blocks;
static struct stream streams[MAX_STREAMS];
static uint8_t scratch[SCRATCH_BYTES];
static uint8_t *payload;
static size_t in_flight = 0;
static bool leaving = false;

static uint64_t measure_from_ns;
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

#ifdef WITH_TLS

/* Waits for all to be sent: what a client asks is little, unless it writes. */
static ssize_t tls_send_message(struct stream *stream, const struct msghdr *message) {
  static uint8_t gathered[SCRATCH_BYTES];
  size_t count = 0;
  for (size_t i = 0; i < message->msg_iovlen && count < sizeof gathered; i++) {
    const struct iovec *buffer = &message->msg_iov[i];
    const size_t room = sizeof gathered - count;
    const size_t part = buffer->iov_len < room ? buffer->iov_len : room;
    memcpy(gathered + count, buffer->iov_base, part);
    count += part;
  }
  return tls_send(stream->tls, gathered, count) ? (ssize_t)count : -1;
}

#endif

static ssize_t send_some(struct stream *stream, const struct msghdr *message, int flags) {
#ifdef WITH_TLS
  if (stream->tls != NULL)
    return tls_send_message(stream, message);
#endif
  return sendmsg(stream->fd, message, MSG_NOSIGNAL | flags);
}

static void send_all(struct stream *stream, const void *data, size_t count) {
  while (count > 0) {
    struct iovec buffer = {(void *)data, count};
    struct msghdr message = {.msg_iov = &buffer, .msg_iovlen = 1};
    ssize_t sent = send_some(stream, &message, 0);
    if (sent == -1)
      fail("send");
    data = (const uint8_t *)data + sent;
    count -= (size_t)sent;
  }
}

static void receive_all(struct stream *stream, void *data, size_t count) {
  while (count > 0) {
#ifdef WITH_TLS
    if (stream->tls != NULL && tls_wait(stream->tls)) {
      const size_t taken = tls_take(stream->tls, data, count);
      data = (uint8_t *)data + taken;
      count -= taken;
      continue;
    }
#endif
    ssize_t received = recv(stream->fd, data, count, 0);
    if (received <= 0)
      fail("the server has closed the connection");
    data = (uint8_t *)data + received;
    count -= (size_t)received;
  }
}

static int connect_by_tcp(const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  const int on = 1;
  address.sin_port = htons((uint16_t)atoi(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd == -1 || connect(fd, (struct sockaddr *)&address, sizeof address) == -1)
    fail(port);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

/* A number is a TCP port of this machine. */
static int connect_to(const char *path) {
  if (path[strspn(path, "0123456789")] == '\0')
    return connect_by_tcp(path);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd == -1 || connect(fd, (struct sockaddr *)&address, sizeof address) == -1)
    fail(path);
  return fd;
}

/* Sends an option without data that must be acknowledged. */
static void negotiate(struct stream *stream, uint8_t number, const char *failure) {
  const uint8_t option[16] = {'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, number};
  uint8_t reply[20];
  send_all(stream, option, sizeof option);
  receive_all(stream, reply, sizeof reply);
  if (reply[12] != 0 || reply[15] != 1)
    fail(failure);
}

/* By NBD_OPT_EXPORT_NAME. Returns the export's size in bytes. */
static uint64_t handshake(struct stream *stream) {
  uint8_t greeting[18];
  receive_all(stream, greeting, sizeof greeting);
  uint8_t flags[4] = {0, 0, 0, 3};
  send_all(stream, flags, sizeof flags);
#ifdef WITH_TLS
  if (encrypted) {
    negotiate(stream, 5, "the server has no TLS");
    stream->tls = tls_connect(stream->fd);
    if (stream->tls == NULL)
      fail("TLS");
  }
#endif
  if (structured)
    negotiate(stream, 8, "the server has no structured replies");
  uint8_t choice[16] = {'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 1};
  send_all(stream, choice, sizeof choice);
  uint8_t facts[10];
  receive_all(stream, facts, sizeof facts);
  uint64_t size;
  memcpy(&size, facts, sizeof size);
  return be64toh(size);
}

static void encode(uint8_t *header, uint16_t type, uint64_t cookie, uint64_t offset,
                   uint32_t length) {
  const uint32_t magic = htobe32(0x25609513);
  offset = htobe64(offset);
  length = htobe32(length);
  type = htobe16(type);
  memcpy(header, &magic, 4);
  memset(header + 4, 0, 2);
  memcpy(header + 6, &type, 2);
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

/* Queues a request under a cookie that is free. */
static void ask(struct stream *stream, uint32_t cookie, uint64_t now) {
  stream->requests[cookie].offset = random_number() % blocks * bytes;
  stream->requests[cookie].asked_ns = now;
  stream->unsent[(stream->first_unsent + stream->unsent_count++) % depth] = cookie;
  in_flight++;
}

/* Drops the first bytes of a list of buffers, which lose those that become empty. */
static struct iovec *skip(struct iovec *buffers, size_t count) {
  while (count >= buffers->iov_len)
    count -= buffers++->iov_len;
  buffers->iov_base = (uint8_t *)buffers->iov_base + count;
  buffers->iov_len -= count;
  return buffers;
}

/* Sends what the socket takes at once. */
static void send_queued(struct stream *stream) {
  static uint8_t headers[BATCH * HEADER_BYTES];
  const size_t request_bytes = HEADER_BYTES + (writes ? bytes : 0);
  while (stream->unsent_count > 0) {
    struct iovec buffers[2 * BATCH];
    const size_t count = stream->unsent_count < BATCH ? stream->unsent_count : BATCH;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
      const uint32_t cookie = stream->unsent[(stream->first_unsent + i) % depth];
      uint8_t *header = headers + i * HEADER_BYTES;
      encode(header, writes ? 1 : 0, cookie, stream->requests[cookie].offset, bytes);
      if (!writes)
        continue;
      buffers[used++] = (struct iovec){header, HEADER_BYTES};
      buffers[used++] = (struct iovec){payload, bytes};
    }
    if (!writes)
      buffers[used++] = (struct iovec){headers, count * HEADER_BYTES};
    struct iovec *rest = skip(buffers, stream->sent_of_first);
    struct msghdr message = {.msg_iov = rest, .msg_iovlen = used - (size_t)(rest - buffers)};
    ssize_t sent = send_some(stream, &message, MSG_DONTWAIT);
    if (sent == -1 && errno == EAGAIN)
      return;
    if (sent == -1)
      fail("send");
    stream->sent_of_first += (size_t)sent;
    while (stream->sent_of_first >= request_bytes) {
      stream->sent_of_first -= request_bytes;
      stream->first_unsent = (stream->first_unsent + 1) % depth;
      stream->unsent_count--;
    }
  }
}

/* A reply is complete: its place is taken by another request. */
static void answered(struct stream *stream, uint32_t cookie, uint64_t now) {
  in_flight--;
  if (now >= measure_from_ns && !leaving)
    record(now - stream->requests[cookie].asked_ns);
  if (!leaving)
    ask(stream, cookie, now);
}

static uint32_t cookie_of_reply(const struct stream *stream) {
  uint32_t magic;
  uint32_t error;
  uint64_t cookie;
  memcpy(&magic, stream->header, 4);
  memcpy(&error, stream->header + 4, 4);
  memcpy(&cookie, stream->header + 8, 8);
  if (be32toh(magic) == 0x67446698 && error == 0 && cookie < depth)
    return (uint32_t)cookie;
  /* In the place of the error: that it is the last chunk, and of data or a hole. */
  const bool is_content = be32toh(error) == 0x10001 || be32toh(error) == 0x10002;
  if (be32toh(magic) == 0x668e33ef && is_content && cookie < depth)
    return (uint32_t)cookie;
  fprintf(stderr, "load: a request failed with NBD error %" PRIu32 "\n", be32toh(error));
  exit(1);
}

/* How much follows the header: a hole's is its length. */
static size_t data_bytes_of_reply(const struct stream *stream) {
  uint32_t payload_bytes;
  if (writes || !structured)
    return writes ? 0 : bytes;
  memcpy(&payload_bytes, stream->header + 16, 4);
  return be32toh(payload_bytes) - (DATA_CHUNK_BYTES - 20);
}

#ifdef WITH_TLS

/* Decrypts the headers of replies, and nothing else. */
static void receive_records(struct stream *stream) {
  const uint64_t now = now_ns();
  if (!tls_wait(stream->tls))
    fail("the server has closed the connection");
  do {
    if (stream->header_bytes < reply_bytes) {
      stream->header_bytes += tls_take(stream->tls, stream->header + stream->header_bytes,
                                       reply_bytes - stream->header_bytes);
      if (stream->header_bytes < reply_bytes)
        continue;
      stream->data_left = data_bytes_of_reply(stream);
    }
    stream->data_left -= tls_take(stream->tls, NULL, stream->data_left);
    if (stream->data_left == 0) {
      stream->header_bytes = 0;
      answered(stream, cookie_of_reply(stream), now);
    }
  } while (tls_has_more(stream->tls));
}

#endif

/* Receives what there is, once; false if there is nothing. */
static bool receive(struct stream *stream, bool may_wait) {
#ifdef WITH_TLS
  if (stream->tls != NULL) {
    receive_records(stream);
    return true;
  }
#endif
  ssize_t received = recv(stream->fd, scratch, sizeof scratch, may_wait ? 0 : MSG_DONTWAIT);
  if (received == -1 && errno == EAGAIN)
    return false;
  if (received <= 0)
    fail("the server has closed the connection");
  const uint64_t now = now_ns();
  const uint8_t *at = scratch;
  for (size_t left = (size_t)received; left > 0;) {
    if (stream->header_bytes < reply_bytes) {
      size_t part = reply_bytes - stream->header_bytes;
      part = part < left ? part : left;
      memcpy(stream->header + stream->header_bytes, at, part);
      stream->header_bytes += part;
      at += part;
      left -= part;
      if (stream->header_bytes < reply_bytes)
        break;
      stream->data_left = data_bytes_of_reply(stream);
    }
    const size_t part = stream->data_left < left ? stream->data_left : left;
    stream->data_left -= part;
    at += part;
    left -= part;
    if (stream->data_left == 0) {
      stream->header_bytes = 0;
      answered(stream, cookie_of_reply(stream), now);
    }
  }
  return true;
}

/* One turn of all streams that have something to do. */
static void serve_streams(void) {
  struct pollfd polled[MAX_STREAMS];
  if (stream_count == 1 && streams[0].unsent_count == 0) {
    receive(&streams[0], true); /* a call less than by poll */
    send_queued(&streams[0]);
    return;
  }
  for (size_t i = 0; i < stream_count; i++)
    polled[i] = (struct pollfd){streams[i].fd,
                                (short)(POLLIN | (streams[i].unsent_count > 0 ? POLLOUT : 0)), 0};
  if (poll(polled, stream_count, -1) == -1)
    fail("poll");
  for (size_t i = 0; i < stream_count; i++) {
    if ((polled[i].revents & ~POLLOUT) != 0)
      receive(&streams[i], false);
    send_queued(&streams[i]);
  }
}

static void open_stream(struct stream *stream, const char *socket) {
  stream->fd = connect_to(socket);
  blocks = handshake(stream) / bytes;
  stream->requests = calloc(depth, sizeof *stream->requests);
  stream->unsent = calloc(depth, sizeof *stream->unsent);
  if (blocks == 0 || stream->requests == NULL || stream->unsent == NULL)
    fail("the export is too small, or memory short");
}

/* In order, with no reply outstanding, if that does not take for ever. */
static void close_streams(void) {
  leaving = true;
  const uint64_t deadline = now_ns() + MAX_DRAIN_NS;
  while (in_flight > 0 && now_ns() < deadline)
    serve_streams();
  for (size_t i = 0; i < stream_count && in_flight == 0; i++) {
    uint8_t header[HEADER_BYTES];
    encode(header, 2 /* NBD_CMD_DISC */, 0, 0, 0);
    send_all(&streams[i], header, sizeof header);
    close(streams[i].fd);
  }
}

static int by_value(const void *a, const void *b) {
  const uint64_t left = *(const uint64_t *)a;
  const uint64_t right = *(const uint64_t *)b;
  return (left > right) - (left < right);
}

static double percentile_us(double part) {
  if (latency_count == 0)
    return 0;
  return (double)latencies_ns[(size_t)((double)(latency_count - 1) * part)] / 1e3;
}

int main(int argc, char **argv) {
  if (argc != 8 && argc != 9) {
    fprintf(stderr,
            "usage: load SOCKET|PORT read|write BYTES DEPTH STREAMS WARM-UP-SECONDS SECONDS "
            "[structured|tls]\n");
    return 1;
  }
  writes = strcmp(argv[2], "write") == 0;
  structured = argc == 9 && strcmp(argv[8], "structured") == 0;
  encrypted = argc == 9 && strcmp(argv[8], "tls") == 0;
  reply_bytes = structured && !writes ? DATA_CHUNK_BYTES : SIMPLE_REPLY_BYTES;
  bytes = (uint32_t)strtoul(argv[3], NULL, 10);
  depth = strtoul(argv[4], NULL, 10);
  stream_count = strtoul(argv[5], NULL, 10);
  if (depth == 0 || depth > MAX_DEPTH || stream_count == 0 || stream_count > MAX_STREAMS ||
      bytes == 0 || bytes > MAX_REQUEST_BYTES) {
    fprintf(stderr, "load: depth up to %d, streams up to %d, blocks up to %d bytes\n", MAX_DEPTH,
            MAX_STREAMS, MAX_REQUEST_BYTES);
    return 1;
  }
  latencies_ns = malloc(latency_capacity * sizeof *latencies_ns);
  payload = malloc(bytes);
  if (latencies_ns == NULL || payload == NULL)
    fail("memory");
  memset(payload, 0x5a, bytes);
  for (size_t i = 0; i < stream_count; i++)
    open_stream(&streams[i], argv[1]);

  uint64_t now = now_ns();
  measure_from_ns = now + (uint64_t)(strtod(argv[6], NULL) * 1e9);
  const uint64_t end = measure_from_ns + (uint64_t)(strtod(argv[7], NULL) * 1e9);
  for (size_t i = 0; i < stream_count; i++) {
    for (uint32_t cookie = 0; cookie < depth; cookie++)
      ask(&streams[i], cookie, now);
    send_queued(&streams[i]);
  }
  while ((now = now_ns()) < end)
    serve_streams();
  close_streams();

  qsort(latencies_ns, latency_count, sizeof *latencies_ns, by_value);
  printf("{\"requests\":%zu,\"seconds\":%.6f,\"p50Us\":%.1f,\"p99Us\":%.1f,\"p999Us\":%.1f}\n",
         latency_count, (double)(now - measure_from_ns) / 1e9, percentile_us(0.5),
         percentile_us(0.99), percentile_us(0.999));
  return 0;
}
