/* See pattern.h. */
#include "pattern.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define WRITER UINT16_MAX /* instead of a number of readers */

static uint64_t blocks;
static uint64_t *positions; /* of each connection, one block after the other */
static uint32_t *versions;  /* of each block, 0: not known */
static uint16_t *users;     /* requests in flight on each block */

static uint64_t random_number(void) {
  static uint64_t state = 88172645463325252;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

void pattern_start(uint64_t size_bytes) {
  blocks = size_bytes / options.block_bytes;
  positions = calloc(options.connections, sizeof *positions);
  if (options.verifies) {
    versions = calloc(blocks, sizeof *versions);
    users = calloc(blocks, sizeof *users);
  }
  if (blocks == 0 || positions == NULL || (options.verifies && (versions == NULL || users == NULL)))
    fail("the export is too small, or memory short");
  for (size_t i = 0; i < options.connections; i++)
    positions[i] = blocks / options.connections * i;
}

static uint64_t next_block(size_t turn) {
  if (!options.is_sequential)
    return random_number() % blocks;
  const uint64_t block = positions[turn];
  positions[turn] = (block + 1) % blocks;
  return block;
}

struct target pattern_next(size_t turn) {
  const bool reads = options.read_percent == 100 || random_number() % 100 < options.read_percent;
  struct target target = {next_block(turn), reads ? COMMAND_READ : options.others, 0};
  if (!options.verifies)
    return target;
  for (uint64_t tried = 0;; tried++, target.block = (target.block + 1) % blocks) {
    if (tried == blocks) {
      errno = EBUSY;
      fail("fewer blocks than requests in flight");
    }
    if (versions[target.block] == 0)
      target.command = COMMAND_WRITE;
    const uint16_t present = users[target.block];
    if (target.command == COMMAND_READ ? present < WRITER - 1 : present == 0)
      break;
  }
  if (target.command == COMMAND_READ) {
    users[target.block]++;
  } else {
    users[target.block] = WRITER;
    versions[target.block]++;
  }
  target.version = versions[target.block];
  return target;
}

void pattern_done(const struct target *target) {
  if (!options.verifies)
    return;
  if (target->command == COMMAND_READ)
    users[target->block]--;
  else
    users[target->block] = 0;
}

/* Differs by place and by version, and looks random. */
static uint64_t word(uint64_t place, uint32_t version) {
  uint64_t value = (place + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)version << 32;
  value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  return value ^ value >> 31;
}

void pattern_fill(const struct target *target, uint8_t *data) {
  const size_t words = options.block_bytes / sizeof(uint64_t);
  for (size_t i = 0; i < words; i++) {
    const uint64_t value = word(target->block * words + i, target->version);
    memcpy(data + i * sizeof value, &value, sizeof value);
  }
}

void pattern_check(const struct target *target, const uint8_t *data) {
  const size_t words = options.block_bytes / sizeof(uint64_t);
  for (size_t i = 0; i < words; i++) {
    const uint64_t due = word(target->block * words + i, target->version);
    uint64_t found;
    memcpy(&found, data + i * sizeof found, sizeof found);
    if (found == due)
      continue;
    fprintf(stderr,
            "load: at offset %" PRIu64 " the data is %016" PRIx64 " instead of %016" PRIx64 "\n",
            target->block * options.block_bytes + i * sizeof due, found, due);
    exit(1);
  }
}
