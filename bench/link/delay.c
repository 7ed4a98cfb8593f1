/* A link with latency, where the kernel has none to offer: TCP through here arrives later by a set
 * time in each direction, in order, and whatever is behind it in flight. One thread, few system
 * calls: what goes through it must not wait for it.
 *   delay LISTEN_PORT TARGET_PORT ONE_WAY_US
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_EVENTS = 256, READ_BYTES = 256 << 10 };

struct chunk {
  struct chunk *next;
  uint64_t due_ns;
  size_t size; /* 0: the end */
  size_t sent;
  char bytes[];
};

/* One end of a connection, and what is on its way there. */
struct side {
  int fd;
  struct pair *pair;
  struct side *peer;
  struct chunk *first, *last;
  bool is_blocked; /* until it can take more */
  bool has_ended;
};

struct pair {
  struct side sides[2];
  unsigned announced; /* in the line below: it must not be freed */
  bool is_dead;
};

/* All that is under way, in the order of its arrival: each entry says that a side has something
 * due. */
struct line {
  struct entry {
    uint64_t due_ns;
    struct side *side;
  } * entries;
  size_t room, first, count;
};

static struct line line;
static int epoll_fd, timer_fd;
static uint64_t one_way_ns;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void announce(struct side *side, uint64_t due_ns) {
  if (line.count == line.room) {
    size_t room = line.room == 0 ? 1024 : line.room * 2;
    struct entry *entries = malloc(room * sizeof *entries);
    if (entries == NULL)
      fail("malloc");
    for (size_t i = 0; i < line.count; i++)
      entries[i] = line.entries[(line.first + i) % line.room];
    free(line.entries);
    line.entries = entries;
    line.room = room;
    line.first = 0;
  }
  line.entries[(line.first + line.count++) % line.room] = (struct entry){due_ns, side};
  side->pair->announced++;
}

static void watch(struct side *side, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = side};
  if (epoll_ctl(epoll_fd, operation, side->fd, &event) == -1)
    fail("epoll_ctl");
}

static void free_if_over(struct pair *pair) {
  if (!pair->is_dead || pair->announced > 0)
    return;
  for (int i = 0; i < 2; i++)
    while (pair->sides[i].first != NULL) {
      struct chunk *chunk = pair->sides[i].first;
      pair->sides[i].first = chunk->next;
      free(chunk);
    }
  free(pair);
}

static void end(struct pair *pair) {
  if (!pair->is_dead) {
    close(pair->sides[0].fd);
    close(pair->sides[1].fd);
  }
  pair->is_dead = true;
}

/* Sends what is due. */
static void flush(struct side *side, uint64_t now) {
  while (side->first != NULL && side->first->due_ns <= now) {
    struct chunk *chunk = side->first;
    if (chunk->size == 0) {
      shutdown(side->fd, SHUT_WR);
      side->has_ended = true;
      if (side->peer->has_ended)
        return end(side->pair);
    } else {
      ssize_t sent = send(side->fd, chunk->bytes + chunk->sent, chunk->size - chunk->sent, 0);
      if (sent == -1 && errno != EAGAIN)
        return end(side->pair);
      chunk->sent += sent > 0 ? (size_t)sent : 0;
      if (chunk->sent < chunk->size) {
        side->is_blocked = true;
        return watch(side, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
      }
    }
    side->first = chunk->next;
    if (side->first == NULL)
      side->last = NULL;
    free(chunk);
  }
}

static void flush_due(void) {
  uint64_t now = now_ns();
  while (line.count > 0 && line.entries[line.first].due_ns <= now) {
    struct side *side = line.entries[line.first].side;
    struct pair *pair = side->pair;
    line.first = (line.first + 1) % line.room;
    line.count--;
    if (!pair->is_dead && !side->is_blocked)
      flush(side, now);
    pair->announced--;
    free_if_over(pair);
  }
  struct itimerspec next = {0};
  if (line.count > 0) {
    uint64_t due_ns = line.entries[line.first].due_ns;
    next.it_value.tv_sec = (time_t)(due_ns / 1000000000);
    next.it_value.tv_nsec = (long)(due_ns % 1000000000);
  }
  timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &next, NULL);
}

/* What has come from a side is on its way to its peer. False: the connection is over. */
static bool carry(struct side *from) {
  static char bytes[READ_BYTES];
  ssize_t size = recv(from->fd, bytes, sizeof bytes, 0);
  if (size == -1)
    return errno == EAGAIN;
  struct chunk *chunk = malloc(sizeof *chunk + (size_t)size);
  if (chunk == NULL)
    fail("malloc");
  *chunk = (struct chunk){.due_ns = now_ns() + one_way_ns, .size = (size_t)size};
  memcpy(chunk->bytes, bytes, (size_t)size);
  struct side *to = from->peer;
  if (to->last == NULL)
    to->first = chunk;
  else
    to->last->next = chunk;
  to->last = chunk;
  announce(to, chunk->due_ns);
  if (size == 0) /* nothing else comes from there */
    watch(from, EPOLL_CTL_MOD, from->is_blocked ? EPOLLOUT : 0);
  return true;
}

static void handle(struct side *side, uint32_t events) {
  bool is_over = (events & EPOLLERR) != 0;
  if (!is_over && (events & EPOLLOUT) != 0 && side->is_blocked) {
    side->is_blocked = false;
    watch(side, EPOLL_CTL_MOD, EPOLLIN);
    flush(side, now_ns());
  }
  if (!is_over && !side->pair->is_dead && (events & (EPOLLIN | EPOLLHUP)) != 0)
    is_over = !carry(side);
  if (is_over)
    end(side->pair);
}

static int connect_to(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd == -1 || connect(fd, (struct sockaddr *)&address, sizeof address) == -1)
    fail("connect");
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

static int listen_on(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) == -1 || listen(fd, 1024) == -1)
    fail("listen");
  return fd;
}

static void take_connection(int listener, uint16_t target) {
  int near = accept4(listener, NULL, NULL, SOCK_NONBLOCK), on = 1;
  struct pair *pair = calloc(1, sizeof *pair);
  if (near == -1 || pair == NULL)
    fail("accept");
  int fds[2] = {near, connect_to(target)};
  for (int i = 0; i < 2; i++) {
    setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    pair->sides[i] = (struct side){.fd = fds[i], .pair = pair, .peer = &pair->sides[1 - i]};
    watch(&pair->sides[i], EPOLL_CTL_ADD, EPOLLIN);
  }
}

int main(int argc, char **argv) {
  if (argc != 4)
    return fputs("use: delay LISTEN_PORT TARGET_PORT ONE_WAY_US\n", stderr), 1;
  uint16_t target = (uint16_t)atoi(argv[2]);
  one_way_ns = strtoull(argv[3], NULL, 10) * 1000;
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_TIMERSLACK, 1UL);
  int listener = listen_on((uint16_t)atoi(argv[1]));
  epoll_fd = epoll_create1(0);
  timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  /* Their fd tells these two from a side. */
  struct side accepting = {.fd = listener}, waking = {.fd = timer_fd};
  watch(&accepting, EPOLL_CTL_ADD, EPOLLIN);
  watch(&waking, EPOLL_CTL_ADD, EPOLLIN | EPOLLET);
  for (;;) {
    struct epoll_event events[MAX_EVENTS];
    int count = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct side *side = events[i].data.ptr;
      if (side == &accepting)
        take_connection(listener, target);
      else if (side != &waking && !side->pair->is_dead)
        handle(side, events[i].events);
    }
    flush_due();
  }
}
