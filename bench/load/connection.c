/* See connection.h. */
#include "connection.h"

#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "options.h"

#define GATHERED_BYTES (256 << 10)
#define MAX_NAME_BYTES 4096

#define FLAG_SEND_FUA (1 << 3)
#define FLAG_SEND_TRIM (1 << 5)
#define FLAG_SEND_WRITE_ZEROES (1 << 6)

void fail(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

struct iovec *skip_bytes(struct iovec *buffers, size_t count) {
  while (count >= buffers->iov_len)
    count -= buffers++->iov_len;
  buffers->iov_base = (uint8_t *)buffers->iov_base + count;
  buffers->iov_len -= count;
  return buffers;
}

/* Waits for all to be sent: what a client asks is little, unless it writes. */
static ssize_t send_gathered(struct connection *connection, const struct msghdr *message) {
  static uint8_t gathered[GATHERED_BYTES];
  size_t count = 0;
  for (size_t i = 0; i < message->msg_iovlen && count < sizeof gathered; i++) {
    const struct iovec *buffer = &message->msg_iov[i];
    const size_t room = sizeof gathered - count;
    const size_t part = buffer->iov_len < room ? buffer->iov_len : room;
    memcpy(gathered + count, buffer->iov_base, part);
    count += part;
  }
  return tls_send(connection->tls, gathered, count) ? (ssize_t)count : -1;
}

ssize_t connection_send(struct connection *connection, const struct msghdr *message) {
  return connection->tls != NULL ? send_gathered(connection, message)
                                 : sendmsg(connection->fd, message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void connection_send_all(struct connection *connection, const void *data, size_t count) {
  if (connection->tls != NULL && !tls_send(connection->tls, data, count))
    fail("send");
  while (connection->tls == NULL && count > 0) {
    const ssize_t sent = send(connection->fd, data, count, MSG_NOSIGNAL);
    if (sent == -1)
      fail("send");
    data = (const uint8_t *)data + sent;
    count -= (size_t)sent;
  }
}

void connection_receive_all(struct connection *connection, void *data, size_t count) {
  while (count > 0) {
    ssize_t received;
    if (connection->tls != NULL)
      received = tls_wait(connection->tls) ? (ssize_t)tls_take(connection->tls, data, count) : -1;
    else
      received = recv(connection->fd, data, count, 0);
    if (received < 0 || (received == 0 && connection->tls == NULL))
      fail("the server has closed the connection");
    data = (uint8_t *)data + received;
    count -= (size_t)received;
  }
}

static int connect_to_port(const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  const int on = 1;
  address.sin_port = htons((uint16_t)atoi(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd == -1 || connect(fd, (struct sockaddr *)&address, sizeof address) == -1)
    fail(port);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static int connect_to(const char *where) {
  if (where[strspn(where, "0123456789")] == '\0')
    return connect_to_port(where);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, where, sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd == -1 || connect(fd, (struct sockaddr *)&address, sizeof address) == -1)
    fail(where);
  return fd;
}

static size_t encode_option(uint8_t *option, uint8_t number, const char *data) {
  const uint32_t length = htobe32((uint32_t)strlen(data));
  const uint8_t head[12] = {'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, number};
  memcpy(option, head, sizeof head);
  memcpy(option + sizeof head, &length, sizeof length);
  memcpy(option + sizeof head + sizeof length, data, strlen(data));
  return sizeof head + sizeof length + strlen(data);
}

/* Sends an option without data that must be acknowledged. */
static void negotiate(struct connection *connection, uint8_t number, const char *failure) {
  uint8_t option[16];
  uint8_t reply[20];
  connection_send_all(connection, option, encode_option(option, number, ""));
  connection_receive_all(connection, reply, sizeof reply);
  errno = EPROTO;
  if (reply[12] != 0 || reply[15] != 1)
    fail(failure);
}

bool carries_data(enum command command) {
  return (command & ~FLAG_FUA) == COMMAND_WRITE;
}

/* The transmission flag without which nobody may send it; 0: none. */
static uint16_t flag_of(enum command command) {
  switch (command) {
  case COMMAND_WRITE_DURABLY:
    return FLAG_SEND_FUA;
  case COMMAND_TRIM:
    return FLAG_SEND_TRIM;
  case COMMAND_ZERO:
    return FLAG_SEND_WRITE_ZEROES;
  default:
    return 0;
  }
}

static void require_flag(uint16_t offered, uint16_t flag) {
  if ((offered & flag) == flag)
    return;
  fputs("load: the server does not offer it\n", stderr);
  exit(EXIT_NOT_OFFERED);
}

/* By NBD_OPT_EXPORT_NAME, which every server knows. */
void connection_open(struct connection *connection) {
  *connection = (struct connection){.fd = connect_to(options.where)};
  uint8_t greeting[18];
  connection_receive_all(connection, greeting, sizeof greeting);
  const uint8_t flags[4] = {0, 0, 0, 3}; /* newstyle, no zeroes */
  connection_send_all(connection, flags, sizeof flags);
  if (options.is_encrypted) {
    negotiate(connection, 5, "the server has no TLS");
    connection->tls = tls_connect(connection->fd);
    if (connection->tls == NULL)
      fail("TLS");
  }
  if (options.is_structured)
    negotiate(connection, 8, "the server has no structured replies");
  uint8_t choice[16 + MAX_NAME_BYTES];
  if (strlen(options.export_name) > MAX_NAME_BYTES)
    fail("the export's name is too long");
  connection_send_all(connection, choice, encode_option(choice, 1, options.export_name));
  uint8_t facts[10];
  connection_receive_all(connection, facts, sizeof facts);
  memcpy(&connection->size_bytes, facts, 8);
  connection->size_bytes = be64toh(connection->size_bytes);
  if (options.read_percent < 100)
    require_flag((uint16_t)(facts[8] << 8 | facts[9]), flag_of(options.others));
}

void connection_close(struct connection *connection) {
  uint8_t request[REQUEST_BYTES];
  encode_request(request, COMMAND_LEAVE, 0, 0, 0);
  connection_send_all(connection, request, sizeof request);
  tls_free(connection->tls);
  close(connection->fd);
}

void encode_request(uint8_t *request, enum command type, uint64_t cookie, uint64_t offset,
                    uint32_t length) {
  const uint32_t magic = htobe32(0x25609513);
  const uint32_t flags_and_type = htobe32(type);
  offset = htobe64(offset);
  length = htobe32(length);
  memcpy(request, &magic, 4);
  memcpy(request + 4, &flags_and_type, 4);
  memcpy(request + 8, &cookie, 8);
  memcpy(request + 16, &offset, 8);
  memcpy(request + 24, &length, 4);
}
