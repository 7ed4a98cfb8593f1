/* key-updates SOCKET: a client that asks for new keys over TLS and for nothing else; ends well when
 * the server's own have come. */
#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ROUNDS 100
#define UPDATES 5
#define DEADLINE_MS 20000

static int fail(const char *what) {
  fprintf(stderr, "key-updates: %s\n", what);
  return 1;
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) == -1)
    return -1;
  return fd;
}

/* The greeting, the client's flags, NBD_OPT_STARTTLS and the reply to it. */
static int start_tls(int fd) {
  static const char request[] = "\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0";
  char answer[20];
  if (recv(fd, answer, 18, MSG_WAITALL) != 18)
    return 0;
  if (write(fd, request, sizeof request - 1) != sizeof request - 1)
    return 0;
  return recv(fd, answer, 20, MSG_WAITALL) == 20 && answer[15] == 1; /* NBD_REP_ACK */
}

static int update(SSL *ssl) {
  return SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(ssl) == 1;
}

/* By NBD_OPT_EXPORT_NAME to the transmission phase. */
static int open_export(SSL *ssl) {
  static const char request[] = "IHAVEOPT\0\0\0\1\0\0\0\0";
  char answer[10];
  return SSL_write(ssl, request, sizeof request - 1) > 0 &&
         SSL_read(ssl, answer, sizeof answer) == sizeof answer;
}

/* Asks for new keys, a few times at once, and takes the server's. */
static const char *one_round(SSL *ssl) {
  struct pollfd end = {SSL_get_fd(ssl), POLLIN, 0};
  char none;
  for (int i = 0; i < UPDATES; i++)
    if (!update(ssl))
      return "cannot update";
  if (poll(&end, 1, DEADLINE_MS) != 1)
    return "no answer";
  if (SSL_get_error(ssl, SSL_read(ssl, &none, 1)) != SSL_ERROR_WANT_READ)
    return "not an answer";
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 2)
    return fail("usage: key-updates SOCKET");
  signal(SIGPIPE, SIG_IGN);
  int fd = connect_to(argv[1]);
  if (fd == -1 || !start_tls(fd))
    return fail("no TLS");
  SSL *ssl = SSL_new(SSL_CTX_new(TLS_client_method()));
  SSL_set_fd(ssl, fd);
  if (SSL_connect(ssl) != 1 || !open_export(ssl))
    return fail("no export");
  fcntl(fd, F_SETFL, O_NONBLOCK);
  /* Many, as the server waits in several ways: at first at once, later after looking again. */
  for (int round = 0; round < ROUNDS; round++) {
    const char *what = one_round(ssl);
    if (what != NULL)
      return fail(what);
  }
  return 0;
}
