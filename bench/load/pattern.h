/* Which block comes next, and what has to be in it. */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "connection.h"

struct target {
  uint64_t block;
  enum command command;
  uint32_t version; /* of the block's data, if it is verified */
};

/* Before all else. */
void pattern_start(uint64_t size_bytes);

/* `turn`: of how many connections this is which. To verify, nothing is read while it is written,
 * and nothing before it was. */
struct target pattern_next(size_t turn);

/* It has been answered: others may have it. */
void pattern_done(const struct target *target);

/* What is to be written. */
void pattern_fill(const struct target *target, uint8_t *data);

/* Ends the program unless it is what was written last. */
void pattern_check(const struct target *target, const uint8_t *data);

#endif
