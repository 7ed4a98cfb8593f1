/* TLS 1.3, as cheap as it can be for the one who measures: OpenSSL does the handshake and encrypts
 * what is sent; of what is received, only the bytes that are asked for are decrypted, and nothing
 * is authenticated. So it is the server's encryption that is measured.
 */
#ifndef TLS_H
#define TLS_H

#include <stdbool.h>
#include <stddef.h>

struct tls;

/* Over a connected socket; NULL if it fails. */
struct tls *tls_connect(int fd);

void tls_free(struct tls *tls);

bool tls_send(struct tls *tls, const void *data, size_t count);

/* Whether a record of data is there, received whole. */
bool tls_has_more(struct tls *tls);

/* Waits until there is one; false if the server has gone. */
bool tls_wait(struct tls *tls);

/* Takes up to `count` bytes out of the record that is there: how many. `out` NULL: drops them. */
size_t tls_take(struct tls *tls, void *out, size_t count);

#endif
