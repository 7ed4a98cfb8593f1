/* See bare.h. This is the end that has the disk: memory, or the pages of a file. */
#include "bare.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "connection.h"
#include "options.h"

/* As large as the disks of the benchmarks, so as badly cached. */
#define REGION_BYTES (256u << 20)
#define SOCKET_BUFFER_BYTES (4 << 20)
#define PIPE_BYTES (1 << 20)
#define SPIN_NS 100000 /* before it sleeps: waking up would be most of it */
/* From there on, references to pages are sent, which TCP makes dearer than copies. */
#define PAGES_BYTES (128 << 10)
#define SEND_BYTES (128 << 10) /* at once, of what is copied */
#define BATCH 64
#define EVENTS 64

struct answerer {
  int fd;
  uint64_t salt;
  struct sequence requests;
  uint64_t replied;
};

static uint8_t *region;
static struct answerer *answerers;
static int epoll_fd;
static int pipe_ends[2];
static uint8_t headers[BATCH * REQUEST_BYTES]; /* of anything: nobody reads them */

static void map_region(void) {
  const int fd = options.bare_file != NULL ? open(options.bare_file, O_RDWR) : -1;
  if (options.bare_file != NULL && fd == -1)
    fail(options.bare_file);
  region = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE,
                fd == -1 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
  if (region == MAP_FAILED)
    fail("memory");
  if (fd == -1) {
    madvise(region, REGION_BYTES, MADV_HUGEPAGE); /* where the system has them */
    memset(region, 0x5a, REGION_BYTES);
  } else if (madvise(region, REGION_BYTES,
                     options.read_percent < 100 ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == -1) {
    fail("the file's pages");
  }
}

/* At random, as clients ask. */
static uint8_t *block_of(const struct answerer *answerer, uint64_t turn) {
  uint64_t value = (turn + 1 + answerer->salt) * UINT64_C(0x9e3779b97f4a7c15);
  value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  value ^= value >> 31;
  return region + value % (REGION_BYTES / options.block_bytes) * options.block_bytes;
}

/* Receives requests, and what is written where it belongs. Whether there was anything. */
static bool receive(struct answerer *answerer) {
  struct iovec buffers[2 * BATCH];
  size_t used = 0;
  for (uint64_t i = 0; i < BATCH && i < options.depth; i++) {
    const uint64_t turn = answerer->requests.turn + i;
    const size_t data_bytes = bare_request_bytes(turn) - REQUEST_BYTES;
    buffers[used++] = (struct iovec){headers, REQUEST_BYTES};
    if (data_bytes > 0)
      buffers[used++] = (struct iovec){block_of(answerer, turn), data_bytes};
  }
  struct iovec *rest = skip_bytes(buffers, answerer->requests.part_bytes);
  struct msghdr message = {.msg_iov = rest, .msg_iovlen = used - (size_t)(rest - buffers)};
  const ssize_t received = recvmsg(answerer->fd, &message, MSG_DONTWAIT);
  if (received == -1 && errno == EAGAIN)
    return false;
  if (received <= 0)
    _exit(0);
  bare_advance(&answerer->requests, (size_t)received);
  return true;
}

static void send_all(int fd, struct iovec *buffers, size_t count, size_t bytes, int flags) {
  while (bytes > 0) {
    const struct msghdr message = {.msg_iov = buffers, .msg_iovlen = count};
    const ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | flags);
    if (sent == -1)
      _exit(0);
    bytes -= (size_t)sent;
    if (bytes == 0)
      return;
    struct iovec *rest = skip_bytes(buffers, (size_t)sent);
    count -= (size_t)(rest - buffers);
    buffers = rest;
  }
}

static void send_pages(int fd, uint8_t *data, size_t left) {
  while (left > 0) {
    const struct iovec memory = {data, left};
    ssize_t put = vmsplice(pipe_ends[1], &memory, 1, SPLICE_F_NONBLOCK);
    if (put <= 0)
      fail("vmsplice");
    data += put;
    left -= (size_t)put;
    while (put > 0) {
      const ssize_t sent =
          splice(pipe_ends[0], NULL, fd, NULL, (size_t)put, left > 0 ? SPLICE_F_MORE : 0);
      if (sent <= 0)
        _exit(0);
      put -= sent;
    }
  }
}

/* Sends replies whose data are copied, a batch of them. */
static void reply_by_copy(struct answerer *answerer) {
  struct iovec buffers[2 * BATCH];
  size_t used = 0;
  size_t bytes = 0;
  while (answerer->replied < answerer->requests.turn && used < 2 * BATCH && bytes < SEND_BYTES) {
    const size_t data_bytes = bare_reply_bytes(answerer->replied) - REPLY_BYTES;
    buffers[used++] = (struct iovec){headers, REPLY_BYTES};
    if (data_bytes > 0)
      buffers[used++] = (struct iovec){block_of(answerer, answerer->replied), data_bytes};
    bytes += REPLY_BYTES + data_bytes;
    answerer->replied++;
  }
  send_all(answerer->fd, buffers, used, bytes, 0);
}

static void reply_by_pages(struct answerer *answerer) {
  struct iovec header = {headers, REPLY_BYTES};
  send_all(answerer->fd, &header, 1, REPLY_BYTES, MSG_MORE);
  send_pages(answerer->fd, block_of(answerer, answerer->replied++), options.block_bytes);
}

static bool serve(struct answerer *answerer) {
  if (!receive(answerer))
    return false;
  const bool sends_pages = !options.bare_is_tcp && options.block_bytes >= PAGES_BYTES;
  while (answerer->replied < answerer->requests.turn)
    if (sends_pages && bare_reads(answerer->replied))
      reply_by_pages(answerer);
    else
      reply_by_copy(answerer);
  return true;
}

/* Whether anybody had asked for anything. */
static bool serve_all(int timeout_ms) {
  if (options.connections == 1 && timeout_ms == 0)
    return serve(&answerers[0]);
  struct epoll_event events[EVENTS];
  const int count = epoll_wait(epoll_fd, events, EVENTS, timeout_ms);
  for (int i = 0; i < count; i++)
    serve(events[i].data.ptr);
  return count > 0;
}

static void open_answerers(const int *sockets) {
  const int buffer_bytes = SOCKET_BUFFER_BYTES;
  answerers = calloc(options.connections, sizeof *answerers);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (answerers == NULL || epoll_fd == -1 || pipe(pipe_ends) == -1 ||
      fcntl(pipe_ends[1], F_SETPIPE_SZ, PIPE_BYTES) == -1)
    fail("the other end");
  for (size_t i = 0; i < options.connections; i++) {
    answerers[i] = (struct answerer){sockets[i], i << 32, {bare_request_bytes, 0, 0}, 0};
    if (!options.bare_is_tcp)
      setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &answerers[i]};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, sockets[i], &event) == -1)
      fail("epoll");
  }
}

void bare_answer(const int *sockets) {
  map_region();
  open_answerers(sockets);
  for (uint64_t busy = now_ns();;)
    if (serve_all(0))
      busy = now_ns();
    else if (now_ns() - busy > SPIN_NS)
      serve_all(-1);
}
