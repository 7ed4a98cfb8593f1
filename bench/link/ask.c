/* How many ranges of a file a web server and the way to it give to a client that does nothing else:
 * the limit for all clients with as many connections.
 *   ask PORT PATH FILE_BYTES RANGE_BYTES CONNECTIONS SECONDS
 * Prints the answers in a second.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 1024, MAX_HEAD = 4096 };

struct connection {
  int fd;
  size_t left;       /* of the answer's body */
  size_t head_bytes; /* of its head, until it is whole */
  char head[MAX_HEAD];
};

static const char *path;
static uint64_t ranges, range_bytes;
static uint64_t answers;
static char sink[256 << 10];

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void ask(struct connection *connection) {
  static uint64_t random = 1;
  random = random * 6364136223846793005 + 1442695040888963407;
  uint64_t from = (random >> 33) % ranges * range_bytes;
  char text[1024];
  int size =
      snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: x\r\nRange: bytes=%llu-%llu\r\n\r\n",
               path, (unsigned long long)from, (unsigned long long)(from + range_bytes - 1));
  if (send(connection->fd, text, (size_t)size, 0) != size)
    fail("send");
  connection->head_bytes = 0;
}

/* Takes the part of the head that is there; what is behind it belongs to the body. */
static void take_head(struct connection *connection) {
  size_t room = MAX_HEAD - 1 - connection->head_bytes;
  ssize_t size = recv(connection->fd, connection->head + connection->head_bytes, room, 0);
  if (size <= 0)
    fail("the server has ended the connection");
  connection->head_bytes += (size_t)size;
  connection->head[connection->head_bytes] = '\0';
  const char *end = strstr(connection->head, "\r\n\r\n");
  if (end == NULL)
    return;
  const char *length = strcasestr(connection->head, "\r\ncontent-length:");
  if (length == NULL || length > end || strncmp(connection->head + 8, " 206", 4) != 0)
    fail("no answer with a range");
  size_t body = strtoull(length + strlen("\r\ncontent-length:"), NULL, 10);
  size_t there = connection->head_bytes - (size_t)(end + 4 - connection->head);
  connection->left = body - there;
  if (connection->left == 0) {
    answers++;
    ask(connection);
  }
}

static void take_body(struct connection *connection) {
  size_t wanted = connection->left < sizeof sink ? connection->left : sizeof sink;
  ssize_t size = recv(connection->fd, sink, wanted, 0);
  if (size <= 0)
    fail("the server has ended the connection");
  connection->left -= (size_t)size;
  if (connection->left == 0) {
    answers++;
    ask(connection);
  }
}

static void start(struct connection *connection, int epoll, uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
  int on = 1;
  connection->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) == -1)
    fail("connect");
  setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
  ask(connection);
}

int main(int argc, char **argv) {
  if (argc != 7)
    return fputs("use: ask PORT PATH FILE_BYTES RANGE_BYTES CONNECTIONS SECONDS\n", stderr), 1;
  static struct connection connections[MAX_CONNECTIONS];
  int count = atoi(argv[5]), epoll = epoll_create1(0);
  path = argv[2];
  range_bytes = strtoull(argv[4], NULL, 10);
  ranges = strtoull(argv[3], NULL, 10) / range_bytes;
  if (count > MAX_CONNECTIONS || ranges == 0)
    return fputs("too many connections, or too small a file\n", stderr), 1;
  for (int i = 0; i < count; i++)
    start(&connections[i], epoll, (uint16_t)atoi(argv[1]));
  /* A fifth of the time is for the connections to come up and to spread. */
  double seconds = atof(argv[6]), from = seconds_now() + seconds / 5, until = from + seconds, now;
  uint64_t before = 0;
  while ((now = seconds_now()) < until) {
    struct epoll_event events[64];
    int ready = epoll_wait(epoll, events, 64, 100);
    if (now < from)
      before = answers;
    for (int i = 0; i < ready; i++) {
      struct connection *connection = events[i].data.ptr;
      if (connection->left > 0)
        take_body(connection);
      else
        take_head(connection);
    }
  }
  printf("%.1f\n", (double)(answers - before) / seconds);
  return 0;
}
