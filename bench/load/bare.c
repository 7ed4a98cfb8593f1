/* See bare.h. This is the end that asks: it does what client.c does, as far as there is no
 * protocol. */
#include "bare.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "clock.h"
#include "connection.h"
#include "options.h"

#define SCRATCH_BYTES (256 << 10)
#define BATCH 128
#define EVENTS 64

struct asker {
  int fd;
  struct sequence requests;
  struct sequence replies;
  bool awaits_room;
};

static struct asker *askers;
static uint8_t *payload;
static int epoll_fd;
static uint64_t answered = 0;

bool bare_reads(uint64_t turn) {
  return turn * options.read_percent % 100 < options.read_percent;
}

size_t bare_request_bytes(uint64_t turn) {
  const bool has_data = !bare_reads(turn) && carries_data(options.others);
  return REQUEST_BYTES + (has_data ? options.block_bytes : 0);
}

size_t bare_reply_bytes(uint64_t turn) {
  return REPLY_BYTES + (bare_reads(turn) ? options.block_bytes : 0);
}

void bare_advance(struct sequence *sequence, size_t bytes) {
  sequence->part_bytes += bytes;
  while (sequence->part_bytes >= sequence->bytes_of(sequence->turn))
    sequence->part_bytes -= sequence->bytes_of(sequence->turn++);
}

static void await_room(struct asker *asker, bool awaits) {
  if (asker->awaits_room == awaits)
    return;
  asker->awaits_room = awaits;
  struct epoll_event event = {.events = EPOLLIN | (awaits ? EPOLLOUT : 0), .data.ptr = asker};
  if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, asker->fd, &event) == -1)
    fail("epoll");
}

/* Headers say nothing, and one payload serves all. Returns the number of buffers. */
static size_t gather(const struct asker *asker, uint64_t count, struct iovec *buffers) {
  static uint8_t headers[BATCH * REQUEST_BYTES];
  size_t used = 0;
  bool follows_header = false;
  for (uint64_t i = 0; i < count && i < BATCH; i++) {
    const size_t data_bytes = bare_request_bytes(asker->requests.turn + i) - REQUEST_BYTES;
    if (follows_header)
      buffers[used - 1].iov_len += REQUEST_BYTES;
    else
      buffers[used++] = (struct iovec){headers, REQUEST_BYTES};
    follows_header = data_bytes == 0;
    if (!follows_header)
      buffers[used++] = (struct iovec){payload, data_bytes};
  }
  return used;
}

/* As many as may be in flight, and as the socket takes at once. */
static void ask(struct asker *asker) {
  uint64_t count;
  while ((count = asker->replies.turn + options.depth - asker->requests.turn) > 0) {
    struct iovec buffers[2 * BATCH];
    const size_t used = gather(asker, count, buffers);
    struct iovec *rest = skip_bytes(buffers, asker->requests.part_bytes);
    const struct msghdr message = {.msg_iov = rest, .msg_iovlen = used - (size_t)(rest - buffers)};
    const ssize_t sent = sendmsg(asker->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent == -1 && errno == EAGAIN)
      break;
    if (sent == -1)
      fail("send");
    bare_advance(&asker->requests, (size_t)sent);
  }
  await_room(asker, count > 0);
}

static void receive(struct asker *asker, bool may_wait) {
  static uint8_t scratch[SCRATCH_BYTES];
  const ssize_t received = recv(asker->fd, scratch, sizeof scratch, may_wait ? 0 : MSG_DONTWAIT);
  if (received == -1 && errno == EAGAIN)
    return;
  if (received <= 0)
    fail("the other end has gone");
  const uint64_t before = asker->replies.turn;
  bare_advance(&asker->replies, (size_t)received);
  answered += asker->replies.turn - before;
}

static void serve_askers(void) {
  if (options.connections == 1 && !askers[0].awaits_room) {
    receive(&askers[0], true);
    ask(&askers[0]);
    return;
  }
  struct epoll_event events[EVENTS];
  const int count = epoll_wait(epoll_fd, events, EVENTS, -1);
  if (count == -1 && errno != EINTR) /* which is what a process gets that was stopped */
    fail("epoll");
  for (int i = 0; i < count; i++) {
    struct asker *asker = events[i].data.ptr;
    if ((events[i].events & ~(uint32_t)EPOLLOUT) != 0)
      receive(asker, false);
    ask(asker);
  }
}

static void connect_by_tcp(int listener, int ends[2]) {
  struct sockaddr_in address;
  socklen_t address_bytes = sizeof address;
  const int on = 1;
  ends[0] = socket(AF_INET, SOCK_STREAM, 0);
  if (getsockname(listener, (struct sockaddr *)&address, &address_bytes) == -1 || ends[0] == -1 ||
      connect(ends[0], (struct sockaddr *)&address, sizeof address) == -1 ||
      (ends[1] = accept(listener, NULL, NULL)) == -1)
    fail("TCP");
  for (int i = 0; i < 2; i++)
    setsockopt(ends[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* Opens the connections. Their other ends go to `others`. */
static void open_askers(int *others) {
  struct sockaddr_in any_port = {.sin_family = AF_INET};
  any_port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&any_port, sizeof any_port) == -1 ||
      listen(listener, 1) == -1)
    fail("TCP");
  for (size_t i = 0; i < options.connections; i++) {
    int ends[2];
    if (options.bare_is_tcp)
      connect_by_tcp(listener, ends);
    else if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == -1)
      fail("socketpair");
    askers[i] =
        (struct asker){ends[0], {bare_request_bytes, 0, 0}, {bare_reply_bytes, 0, 0}, false};
    others[i] = ends[1];
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &askers[i]};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, ends[0], &event) == -1)
      fail("epoll");
  }
  close(listener);
}

static pid_t start_other(const int *others) {
  const pid_t other = fork();
  if (other == -1)
    fail("fork");
  for (size_t i = 0; i < options.connections; i++)
    close(other == 0 ? askers[i].fd : others[i]);
  if (other == 0)
    bare_answer(others);
  return other;
}

void bare_run(void) {
  int *others = calloc(options.connections, sizeof *others);
  askers = calloc(options.connections, sizeof *askers);
  payload = calloc(1, options.block_bytes);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (others == NULL || askers == NULL || payload == NULL || epoll_fd == -1)
    fail("memory");
  open_askers(others);
  options.server = start_other(others);
  for (size_t i = 0; i < options.connections; i++)
    ask(&askers[i]);
  while (answered == 0) /* until the other has its memory */
    serve_askers();
  const uint64_t warm = now_ns() + (uint64_t)(options.warm_up_seconds * 1e9);
  while (now_ns() < warm)
    serve_askers();
  const struct times before = times_now();
  const uint64_t begin = now_ns();
  const uint64_t first = answered;
  while (now_ns() < begin + (uint64_t)(options.seconds * 1e9))
    serve_askers();
  const struct times after = times_now();
  results.seconds = (double)(now_ns() - begin) / 1e9;
  results.latencies.total = answered - first;
  results.server_seconds = after.server_seconds - before.server_seconds;
  results.client_seconds = after.client_seconds - before.client_seconds;
  kill(options.server, SIGTERM);
  waitpid(options.server, NULL, 0);
}
