/* A client's end of one connection to an NBD server, up to where requests may follow. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "tls.h"

#define REQUEST_BYTES 28

enum command { COMMAND_READ = 0, COMMAND_WRITE = 1, COMMAND_LEAVE = 2 };

struct connection {
  int fd;
  struct tls *tls; /* or NULL */
  uint64_t size_bytes;
};

/* Ends the program, with what the system says. */
_Noreturn void fail(const char *what);

/* All as the options say; ends the program if it fails. */
void connection_open(struct connection *connection);

/* In order, if no reply is due. */
void connection_close(struct connection *connection);

/* What the socket takes at once: the number of bytes, or -1. */
ssize_t connection_send(struct connection *connection, const struct msghdr *message);

void connection_send_all(struct connection *connection, const void *data, size_t count);
void connection_receive_all(struct connection *connection, void *data, size_t count);

void encode_request(uint8_t *request, enum command type, uint64_t cookie, uint64_t offset,
                    uint32_t length);

#endif
