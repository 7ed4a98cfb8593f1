/* Two processes that exchange the bytes of a load without a protocol, for both know what comes
 * next: what a server could reach that has nothing to decide. */
#ifndef BARE_H
#define BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_BYTES 16 /* and what was read */

/* One direction of a connection. */
struct sequence {
  size_t (*bytes_of)(uint64_t turn);
  uint64_t turn;     /* of what is next or under way */
  size_t part_bytes; /* of it that have passed */
};

void bare_run(void);

/* Whether that one of a connection's requests is a read. */
bool bare_reads(uint64_t turn);

size_t bare_request_bytes(uint64_t turn);
size_t bare_reply_bytes(uint64_t turn);

/* So many bytes have passed. */
void bare_advance(struct sequence *sequence, size_t bytes);

/* What the other process does, until the first of its sockets closes. */
_Noreturn void bare_answer(const int *sockets);

#endif
