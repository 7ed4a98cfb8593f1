/* A client's end of one connection to an NBD server, up to where requests may follow. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "tls.h"

#define REQUEST_BYTES 28

#define FLAG_FUA (UINT32_C(1) << 16)
#define EXIT_NOT_OFFERED 77

/* Flags and type of a request, as one number. */
enum command {
  COMMAND_READ = 0,
  COMMAND_WRITE = 1,
  COMMAND_LEAVE = 2,
  COMMAND_TRIM = 4,
  COMMAND_ZERO = 6,
  COMMAND_WRITE_DURABLY = FLAG_FUA | COMMAND_WRITE
};

struct connection {
  int fd;
  struct tls *tls; /* or NULL */
  uint64_t size_bytes;
};

/* Ends the program, with what the system says. */
_Noreturn void fail(const char *what);

/* All as the options say; ends the program if it fails, by EXIT_NOT_OFFERED if the server does not
 * have what is to be asked. */
void connection_open(struct connection *connection);

/* In order, if no reply is due. */
void connection_close(struct connection *connection);

/* Drops the first bytes of a list of buffers, which loses those that become empty: not all of them.
 */
struct iovec *skip_bytes(struct iovec *buffers, size_t count);

/* What the socket takes at once: the number of bytes, or -1. */
ssize_t connection_send(struct connection *connection, const struct msghdr *message);

void connection_send_all(struct connection *connection, const void *data, size_t count);
void connection_receive_all(struct connection *connection, void *data, size_t count);

/* Whether its request is followed by data. */
bool carries_data(enum command command);

void encode_request(uint8_t *request, enum command type, uint64_t cookie, uint64_t offset,
                    uint32_t length);

#endif
