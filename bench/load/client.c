/* See client.h. */
#include "client.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "connection.h"
#include "options.h"
#include "pattern.h"

#define SCRATCH_BYTES (256 << 10) /* stays in the cache */
#define BATCH 128                 /* requests a system call may carry */
#define EVENTS 64                 /* connections a system call may tell of */
#define MAX_DRAIN_NS UINT64_C(500000000)
#define MAX_WAIT_MS 100 /* by then the time is looked at: a server may never answer */

#define SIMPLE_REPLY_MAGIC 0x67446698
#define CHUNK_MAGIC 0x668e33ef
#define CHUNK_DONE 1
#define CHUNK_NONE 0
#define CHUNK_DATA 1
#define CHUNK_HOLE 2
#define SIMPLE_REPLY_BYTES 16
#define CHUNK_BYTES 20
#define DATA_PREFIX_BYTES 8
#define HOLE_PREFIX_BYTES 12

struct request {
  struct target target;
  uint64_t asked_ns;
  size_t content_bytes; /* of its reply, so far */
  uint8_t *data;        /* if it is verified */
};

struct stream {
  struct connection connection;
  size_t turn;
  struct request *requests; /* the cookie is the index */
  /* Requests that are not sent yet, oldest first, in a ring of `depth`. */
  uint32_t *unsent;
  size_t first_unsent;
  size_t unsent_count;
  size_t sent_of_first; /* bytes */
  bool awaits_room;
  /* What has arrived of a reply, or of a chunk of one: its header, then data. */
  uint8_t header[CHUNK_BYTES + HOLE_PREFIX_BYTES];
  size_t header_bytes;
  size_t header_due;
  struct request *replied; /* once the header is there */
  bool ends_reply;
  size_t data_left;
  uint8_t *data_to; /* or NULL: nobody keeps it */
};

struct results results;

static struct stream *streams;
static uint8_t *payload;
static int epoll_fd;
static size_t in_flight = 0;
static uint64_t asked = 0;
static bool leaving = false;
static bool measuring = false;

/* Queues a request under a cookie that is free, if there is to be another. */
static void ask(struct stream *stream, uint32_t cookie, uint64_t now) {
  if (leaving || (options.count > 0 && asked == options.count))
    return;
  asked++;
  struct request *request = &stream->requests[cookie];
  request->target = pattern_next(stream->turn);
  request->asked_ns = now;
  request->content_bytes = 0;
  if (options.verifies && carries_data(request->target.command))
    pattern_fill(&request->target, request->data);
  size_t last = stream->first_unsent + stream->unsent_count++;
  stream->unsent[last < options.depth ? last : last - options.depth] = cookie;
  in_flight++;
}

static size_t bytes_of(const struct request *request) {
  return REQUEST_BYTES + (carries_data(request->target.command) ? options.block_bytes : 0);
}

static uint32_t unsent_cookie(const struct stream *stream, size_t index) {
  return stream->unsent[(stream->first_unsent + index) % options.depth];
}

/* Makes a list of the first `count` unsent requests. Returns how many buffers that takes. */
static size_t gather(struct stream *stream, size_t count, struct iovec *buffers) {
  static uint8_t headers[BATCH * REQUEST_BYTES];
  size_t used = 0;
  bool follows_header = false;
  for (size_t i = 0; i < count; i++) {
    const uint32_t cookie = unsent_cookie(stream, i);
    const struct request *request = &stream->requests[cookie];
    uint8_t *header = headers + i * REQUEST_BYTES;
    encode_request(header, request->target.command, cookie,
                   request->target.block * options.block_bytes, options.block_bytes);
    if (follows_header)
      buffers[used - 1].iov_len += REQUEST_BYTES;
    else
      buffers[used++] = (struct iovec){header, REQUEST_BYTES};
    follows_header = !carries_data(request->target.command);
    if (!follows_header)
      buffers[used++] =
          (struct iovec){options.verifies ? request->data : payload, options.block_bytes};
  }
  return used;
}

static void await_room(struct stream *stream, bool awaits) {
  if (stream->awaits_room == awaits)
    return;
  stream->awaits_room = awaits;
  struct epoll_event event = {.events = EPOLLIN | (awaits ? EPOLLOUT : 0), .data.ptr = stream};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, stream->connection.fd, &event) == -1)
    fail("epoll");
}

/* Sends what the socket takes at once. */
static void send_queued(struct stream *stream) {
  while (stream->unsent_count > 0) {
    struct iovec buffers[2 * BATCH];
    const size_t count = stream->unsent_count < BATCH ? stream->unsent_count : BATCH;
    const size_t used = gather(stream, count, buffers);
    struct iovec *rest = skip_bytes(buffers, stream->sent_of_first);
    struct msghdr message = {.msg_iov = rest, .msg_iovlen = used - (size_t)(rest - buffers)};
    const ssize_t sent = connection_send(&stream->connection, &message);
    if (sent == -1 && errno == EAGAIN)
      break;
    if (sent == -1)
      fail("send");
    stream->sent_of_first += (size_t)sent;
    while (stream->unsent_count > 0) {
      const size_t bytes = bytes_of(&stream->requests[unsent_cookie(stream, 0)]);
      if (stream->sent_of_first < bytes)
        break;
      stream->sent_of_first -= bytes;
      stream->first_unsent = (stream->first_unsent + 1) % options.depth;
      stream->unsent_count--;
    }
  }
  await_room(stream, stream->unsent_count > 0);
}

/* A reply is complete: its place is taken by another request. */
static void answered(struct stream *stream, uint64_t now) {
  struct request *request = stream->replied;
  if (request->target.command == COMMAND_READ) {
    errno = EPROTO;
    if (request->content_bytes != options.block_bytes)
      fail("a reply has not as much data as was asked for");
    if (options.verifies) {
      pattern_check(&request->target, request->data);
      results.verified++;
    }
  }
  pattern_done(&request->target);
  in_flight--;
  if (measuring && !leaving) {
    histogram_record(&results.latencies, now - request->asked_ns);
    results.answered[stream->turn]++;
  }
  ask(stream, (uint32_t)(request - stream->requests), now);
}

static uint32_t header_u32(const struct stream *stream, size_t at) {
  uint32_t value;
  memcpy(&value, stream->header + at, sizeof value);
  return be32toh(value);
}

_Noreturn static void refuse_reply(const struct stream *stream) {
  fprintf(stderr, "load: a reply that is none, or an error: %08" PRIx32 " %08" PRIx32 "\n",
          header_u32(stream, 0), header_u32(stream, 4));
  exit(1);
}

/* How long the header is that begins like this. */
static size_t header_due(const struct stream *stream) {
  const uint32_t magic = header_u32(stream, 0);
  if (magic == SIMPLE_REPLY_MAGIC)
    return SIMPLE_REPLY_BYTES;
  const uint32_t type = header_u32(stream, 4) & 0xffff;
  if (magic != CHUNK_MAGIC || type > CHUNK_HOLE)
    refuse_reply(stream);
  return CHUNK_BYTES + (type == CHUNK_DATA   ? DATA_PREFIX_BYTES
                        : type == CHUNK_HOLE ? HOLE_PREFIX_BYTES
                                             : 0);
}

/* What of its request's data a chunk has. */
static void take_content(struct stream *stream, uint32_t type) {
  struct request *request = stream->replied;
  uint64_t offset;
  memcpy(&offset, stream->header + CHUNK_BYTES, sizeof offset);
  const uint64_t begin = be64toh(offset) - request->target.block * options.block_bytes;
  const uint32_t payload_bytes = header_u32(stream, 16);
  const uint64_t bytes = type == CHUNK_HOLE ? header_u32(stream, CHUNK_BYTES + DATA_PREFIX_BYTES)
                                            : payload_bytes - DATA_PREFIX_BYTES;
  if (begin > options.block_bytes || bytes > options.block_bytes - begin)
    refuse_reply(stream);
  request->content_bytes += bytes;
  stream->data_left = type == CHUNK_HOLE ? 0 : bytes;
  stream->data_to = options.verifies ? request->data + begin : NULL;
  if (type == CHUNK_HOLE && options.verifies)
    memset(request->data + begin, 0, bytes);
}

static void take_header(struct stream *stream) {
  uint64_t cookie;
  memcpy(&cookie, stream->header + 8, sizeof cookie);
  if (cookie >= options.depth)
    refuse_reply(stream);
  struct request *request = stream->replied = &stream->requests[cookie];
  stream->data_left = 0;
  if (header_u32(stream, 0) == CHUNK_MAGIC) {
    const uint32_t type = header_u32(stream, 4) & 0xffff;
    stream->ends_reply = (header_u32(stream, 4) >> 16 & CHUNK_DONE) != 0;
    if (type != CHUNK_NONE)
      take_content(stream, type);
    return;
  }
  if (header_u32(stream, 4) != 0)
    refuse_reply(stream);
  stream->ends_reply = true;
  if (request->target.command == COMMAND_READ) {
    request->content_bytes = stream->data_left = options.block_bytes;
    stream->data_to = request->data;
  }
}

/* What has been received and is not yet looked at. */
struct input {
  struct tls *tls; /* it is in there, or else here */
  const uint8_t *at;
  size_t left;
};

static size_t take(struct input *input, void *to, size_t count) {
  if (input->tls != NULL)
    return tls_take(input->tls, to, count);
  const size_t taken = count < input->left ? count : input->left;
  if (to != NULL)
    memcpy(to, input->at, taken);
  input->at += taken;
  input->left -= taken;
  return taken;
}

static bool has_more(const struct input *input) {
  return input->tls != NULL ? tls_has_more(input->tls) : input->left > 0;
}

static void understand(struct stream *stream, struct input *input) {
  const uint64_t now = now_ns();
  while (has_more(input)) {
    if (stream->header_bytes < stream->header_due) {
      stream->header_bytes += take(input, stream->header + stream->header_bytes,
                                   stream->header_due - stream->header_bytes);
      if (stream->header_bytes < stream->header_due)
        continue;
      stream->header_due = header_due(stream);
      if (stream->header_bytes < stream->header_due)
        continue;
      take_header(stream);
    }
    if (stream->data_left > 0) {
      const size_t taken = take(input, stream->data_to, stream->data_left);
      stream->data_left -= taken;
      stream->data_to += stream->data_to != NULL ? taken : 0;
    }
    if (stream->data_left == 0) {
      stream->header_bytes = 0;
      stream->header_due = SIMPLE_REPLY_BYTES;
      if (stream->ends_reply)
        answered(stream, now);
    }
  }
}

/* Receives what there is, once. */
static void receive(struct stream *stream, bool may_wait) {
  static uint8_t scratch[SCRATCH_BYTES];
  struct input input = {stream->connection.tls, scratch, 0};
  if (input.tls != NULL) {
    if (!tls_wait(input.tls))
      fail("the server has closed the connection");
  } else {
    const ssize_t received =
        recv(stream->connection.fd, scratch, sizeof scratch, may_wait ? 0 : MSG_DONTWAIT);
    if (received == -1 && errno == EAGAIN)
      return;
    if (received <= 0)
      fail("the server has closed the connection");
    input.left = (size_t)received;
  }
  understand(stream, &input);
}

/* One turn of all streams that have something to do. */
static void serve_streams(void) {
  if (options.connections == 1 && streams[0].unsent_count == 0) {
    receive(&streams[0], true); /* a call less than by epoll */
    send_queued(&streams[0]);
    return;
  }
  struct epoll_event events[EVENTS];
  const int count = epoll_wait(epoll_fd, events, EVENTS, MAX_WAIT_MS);
  if (count == -1 && errno != EINTR) /* which is what a process gets that was stopped */
    fail("epoll");
  for (int i = 0; i < count; i++) {
    struct stream *stream = events[i].data.ptr;
    if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0)
      receive(stream, false);
    send_queued(stream);
  }
}

static void open_stream(struct stream *stream, size_t turn) {
  connection_open(&stream->connection);
  stream->turn = turn;
  stream->header_due = SIMPLE_REPLY_BYTES;
  stream->requests = calloc(options.depth, sizeof *stream->requests);
  stream->unsent = calloc(options.depth, sizeof *stream->unsent);
  if (stream->requests == NULL || stream->unsent == NULL)
    fail("memory");
  for (size_t i = 0; i < options.depth && options.verifies; i++)
    if ((stream->requests[i].data = malloc(options.block_bytes)) == NULL)
      fail("memory");
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = stream};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, stream->connection.fd, &event) == -1)
    fail("epoll");
}

static void open_streams(void) {
  streams = calloc(options.connections, sizeof *streams);
  results.answered = calloc(options.connections, sizeof *results.answered);
  payload = malloc(options.block_bytes);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (streams == NULL || results.answered == NULL || payload == NULL || epoll_fd == -1)
    fail("memory");
  memset(payload, 0x5a, options.block_bytes);
  for (size_t i = 0; i < options.connections; i++)
    open_stream(&streams[i], i);
  pattern_start(streams[0].connection.size_bytes);
}

/* In order, with no reply outstanding, if that does not take for ever. */
static void close_streams(void) {
  leaving = true;
  const uint64_t deadline = now_ns() + MAX_DRAIN_NS;
  while (in_flight > 0 && now_ns() < deadline)
    serve_streams();
  for (size_t i = 0; i < options.connections && in_flight == 0; i++)
    connection_close(&streams[i].connection);
}

void client_run(void) {
  open_streams();
  uint64_t now = now_ns();
  uint64_t begin = now + (options.count > 0 ? 0 : (uint64_t)(options.warm_up_seconds * 1e9));
  const uint64_t end = options.count > 0 ? UINT64_MAX : begin + (uint64_t)(options.seconds * 1e9);
  for (size_t i = 0; i < options.connections; i++) {
    for (uint32_t cookie = 0; cookie < options.depth; cookie++)
      ask(&streams[i], cookie, now);
    send_queued(&streams[i]);
  }
  struct times times = {0};
  while ((now = now_ns()) < end && in_flight > 0) {
    if (!measuring && now >= begin) {
      measuring = true;
      begin = now;
      times = times_now();
    }
    serve_streams();
  }
  const struct times after = times_now();
  results.seconds = (double)(now - begin) / 1e9;
  results.server_seconds = after.server_seconds - times.server_seconds;
  results.client_seconds = after.client_seconds - times.client_seconds;
  close_streams();
}

void client_idle(void) {
  open_streams();
  puts("open");
  fflush(stdout);
  const struct timespec pause = {(time_t)options.seconds, 0};
  nanosleep(&pause, NULL);
  close_streams();
}

void client_churn(void) {
  uint8_t *reply = malloc(SIMPLE_REPLY_BYTES + options.block_bytes);
  if (reply == NULL)
    fail("memory");
  const struct times before = times_now();
  const uint64_t begin = now_ns();
  const uint64_t end = begin + (uint64_t)(options.seconds * 1e9);
  uint64_t now = begin;
  while (now < end) {
    struct connection connection;
    uint8_t request[REQUEST_BYTES];
    connection_open(&connection);
    encode_request(request, COMMAND_READ, 0, 0, options.block_bytes);
    connection_send_all(&connection, request, sizeof request);
    connection_receive_all(&connection, reply, SIMPLE_REPLY_BYTES + options.block_bytes);
    connection_close(&connection);
    const uint64_t started = now;
    now = now_ns();
    histogram_record(&results.latencies, now - started);
  }
  const struct times after = times_now();
  results.seconds = (double)(now - begin) / 1e9;
  results.server_seconds = after.server_seconds - before.server_seconds;
  results.client_seconds = after.client_seconds - before.client_seconds;
  free(reply);
}
