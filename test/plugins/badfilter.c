/* A filter that is nobody's friend. Each region of 64 KiB has a fault of its own, for all requests
 * that begin there; in the first, all is well. facts=N has it say nonsense of itself, of kind N. A
 * request in the last region blocks until the file release=PATH exists. */

#include <nbdkit-filter.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REGION_BYTES (64 << 10)
#define THREADS 10
#define MANY_EXTENTS 2000000

enum region {
  FRIENDLY,
  FAILS_WITHOUT_ERRNO,
  FAILS_WITH_NEGATIVE_ERRNO,
  FAILS_WITH_HUGE_ERRNO,
  RETURNS_ANY_NUMBER,
  SUCCEEDS_WITH_ERRNO,
  ASKS_FROM_TEN_THREADS,
  ASKS_FOR_NONSENSE,
  FAILS_WITH_MANY_WORDS,
  BLOCKS,
};

enum facts { TRUE_FACTS, HUGE_SIZE, NEGATIVE_SIZE, LARGE_ANSWERS, NEGATIVE_ANSWERS, ODD_BLOCKS };

static int facts;
static char *release;

static enum region region_of(uint64_t offset) {
  return (enum region)(offset / REGION_BYTES);
}

static int bad_config(nbdkit_next_config *next, nbdkit_backend *nxdata, const char *key,
                      const char *value) {
  if (strcmp(key, "facts") == 0)
    return nbdkit_parse_int("facts", value, &facts);
  if (strcmp(key, "release") == 0)
    return (release = strdup(value)) != NULL ? 0 : -1;
  return next(nxdata, key, value);
}

static void bad_unload(void) {
  free(release);
}

/* ---- what it says of itself */

/* Before it may ask: what is behind it is not prepared yet. */
static void *bad_open(nbdkit_next_open *next, nbdkit_context *context, int readonly,
                      const char *exportname, int is_tls) {
  (void)is_tls;
  if (next(context, readonly, exportname) == -1)
    return NULL;
  nbdkit_next *behind = nbdkit_context_set_next(context, NULL);
  nbdkit_context_set_next(context, behind);
  if (behind != NULL)
    behind->get_size(behind);
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t bad_get_size(nbdkit_next *next, void *handle) {
  (void)handle;
  if (facts == NEGATIVE_SIZE)
    return -5;
  return facts == HUGE_SIZE ? INT64_MAX : next->get_size(next);
}

static int answer(int truth) {
  return facts == LARGE_ANSWERS ? 1234567 : facts == NEGATIVE_ANSWERS ? -7 : truth;
}

static int bad_can_fua(nbdkit_next *next, void *handle) {
  (void)handle;
  return answer(next->can_fua(next));
}

static int bad_can_cache(nbdkit_next *next, void *handle) {
  (void)handle;
  return facts == LARGE_ANSWERS ? 1234567 : next->can_cache(next);
}

static int bad_can_zero(nbdkit_next *next, void *handle) {
  (void)handle;
  return facts == LARGE_ANSWERS ? 1234567 : next->can_zero(next);
}

static int bad_block_size(nbdkit_next *next, void *handle, uint32_t *minimum, uint32_t *preferred,
                          uint32_t *maximum) {
  (void)next, (void)handle;
  const bool is_odd = facts == ODD_BLOCKS;
  *minimum = is_odd ? 3000000000U : 1;
  *preferred = is_odd ? 7 : 4096;
  *maximum = is_odd ? 5 : 64 << 20;
  return 0;
}

/* ---- requests */

struct question {
  nbdkit_next *next;
  uint64_t offset;
  uint32_t count;
  uint8_t *data;
  int result;
};

static void *ask(void *of) {
  struct question *question = of;
  uint8_t outside[16];
  int err = 0;
  question->next->pread(question->next, outside, sizeof outside, UINT64_MAX - 8, 0, &err);
  question->result = question->next->pread(question->next, question->data, question->count,
                                           question->offset, 0, NULL);
  return NULL;
}

/* All at once, of one request; and each asks for what is outside first. */
static int ask_from_threads(nbdkit_next *next, uint8_t *data, uint32_t count, uint64_t offset) {
  pthread_t threads[THREADS];
  struct question questions[THREADS];
  unsigned started = 0;
  const uint32_t piece = (count + THREADS - 1) / THREADS;
  for (uint32_t at = 0; at < count; at += piece) {
    const uint32_t length = count - at < piece ? count - at : piece;
    questions[started] = (struct question){next, offset + at, length, data + at, -1};
    if (pthread_create(&threads[started], NULL, ask, &questions[started]) != 0)
      break;
    started++;
  }
  int result = (uint64_t)started * piece >= count ? 0 : -1;
  for (unsigned i = 0; i < started; i++) {
    pthread_join(threads[i], NULL);
    if (questions[i].result == -1)
      result = -1;
  }
  return result;
}

/* None of it is possible. */
static void ask_for_nonsense(nbdkit_next *next) {
  uint8_t byte = 0;
  int err = 0;
  const uint64_t size = (uint64_t)next->get_size(next);
  next->pread(next, &byte, 0, 0, 0, &err);
  next->pread(next, &byte, 1, size, 0, &err);
  next->pread(next, &byte, 1, 0, UINT32_MAX, &err);
  next->pwrite(next, &byte, UINT32_MAX, size - 1, 0, NULL);
  next->flush(next, UINT32_MAX, &err);
  next->trim(next, 0, size, 0, &err);
  next->trim(next, UINT32_MAX, UINT64_MAX, 0, NULL);
  next->zero(next, 4096, size - 1, 0, &err);
  next->zero(next, 1, 0, UINT32_MAX, &err);
  next->cache(next, UINT32_MAX, size, UINT32_MAX, &err);
  struct nbdkit_extents *elsewhere = nbdkit_extents_new(size, size);
  if (elsewhere != NULL) {
    next->extents(next, 4096, 0, 0, elsewhere, &err);
    next->extents(next, 0, 0, UINT32_MAX, elsewhere, NULL);
    nbdkit_extents_free(elsewhere);
  }
  nbdkit_extents_new(9, 3);
}

static int fail(int *err, int number) {
  *err = number;
  return -1;
}

static int fail_with_words(int *err) {
  static char words[100000];
  memset(words, '%', sizeof words - 1);
  memcpy(words, "two\nlines\033[2J\xff", 15);
  nbdkit_error("%s", words);
  return fail(err, 0);
}

/* Of a request that has been passed on with this result, or is about to be: 1: pass it on. */
static int fault(nbdkit_next *next, uint64_t offset, int *err) {
  switch (region_of(offset)) {
  case FAILS_WITHOUT_ERRNO:
    return fail(err, 0);
  case FAILS_WITH_NEGATIVE_ERRNO:
    return fail(err, -5);
  case FAILS_WITH_HUGE_ERRNO:
    return fail(err, 1 << 30);
  case ASKS_FOR_NONSENSE:
    ask_for_nonsense(next);
    return 1;
  case FAILS_WITH_MANY_WORDS:
    return fail_with_words(err);
  case BLOCKS:
    while (release != NULL && access(release, F_OK) == -1)
      usleep(1000);
    return 1;
  default:
    return 1;
  }
}

static int end(uint64_t offset, int result, int *err) {
  if (result != -1 && region_of(offset) == SUCCEEDS_WITH_ERRNO)
    *err = EIO;
  return result != -1 && region_of(offset) == RETURNS_ANY_NUMBER ? 7 : result;
}

static int bad_pread(nbdkit_next *next, void *handle, void *buf, uint32_t count, uint64_t offset,
                     uint32_t flags, int *err) {
  (void)handle;
  if (region_of(offset) == ASKS_FROM_TEN_THREADS)
    return ask_from_threads(next, buf, count, offset);
  const int result = fault(next, offset, err);
  return result == 1 ? end(offset, next->pread(next, buf, count, offset, flags, err), err) : result;
}

static int bad_pwrite(nbdkit_next *next, void *handle, const void *buf, uint32_t count,
                      uint64_t offset, uint32_t flags, int *err) {
  (void)handle;
  const int result = fault(next, offset, err);
  return result == 1 ? end(offset, next->pwrite(next, buf, count, offset, flags, err), err)
                     : result;
}

static int bad_zero(nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                    uint32_t flags, int *err) {
  (void)handle;
  const int result = fault(next, offset, err);
  return result == 1 ? end(offset, next->zero(next, count, offset, flags, err), err) : result;
}

static int bad_trim(nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                    uint32_t flags, int *err) {
  (void)handle;
  const int result = fault(next, offset, err);
  return result == 1 ? end(offset, next->trim(next, count, offset, flags, err), err) : result;
}

static int add_many(struct nbdkit_extents *extents, uint64_t offset) {
  for (uint64_t i = 0; i < MANY_EXTENTS; i++)
    if (nbdkit_add_extent(extents, offset + i, 1, i % 2) == -1)
      return -1;
  return 0;
}

static int bad_extents(nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                       uint32_t flags, struct nbdkit_extents *extents, int *err) {
  (void)handle;
  switch (region_of(offset)) {
  case FAILS_WITHOUT_ERRNO:
    return fail(err, 0);
  case FAILS_WITH_NEGATIVE_ERRNO: /* or none at all */
    return 0;
  case FAILS_WITH_HUGE_ERRNO: /* or backwards */
    nbdkit_add_extent(extents, offset, count, 0);
    return nbdkit_add_extent(extents, offset / 2, count, 0);
  case RETURNS_ANY_NUMBER: /* or later than asked */
    nbdkit_add_extent(extents, offset + count, 4096, 0);
    return 7;
  case SUCCEEDS_WITH_ERRNO: /* or far beyond the end */
    *err = EIO;
    return nbdkit_add_extent(extents, 0, INT64_MAX, 0);
  case ASKS_FROM_TEN_THREADS: /* or more than fit */
    return add_many(extents, offset);
  case ASKS_FOR_NONSENSE: /* or of no kind */
    ask_for_nonsense(next);
    return nbdkit_add_extent(extents, offset, UINT64_MAX - offset, 1U << 30);
  case FAILS_WITH_MANY_WORDS: /* or of no length, and to the end of all numbers */
    nbdkit_add_extent(extents, offset, 0, 0);
    return nbdkit_add_extent(extents, offset, UINT64_MAX, 0);
  default:
    return next->extents(next, count, offset, flags, extents, err);
  }
}

static struct nbdkit_filter filter = {
    .name = "badfilter",
    .config = bad_config,
    .unload = bad_unload,
    .open = bad_open,
    .get_size = bad_get_size,
    .block_size = bad_block_size,
    .can_fua = bad_can_fua,
    .can_zero = bad_can_zero,
    .can_cache = bad_can_cache,
    .pread = bad_pread,
    .pwrite = bad_pwrite,
    .zero = bad_zero,
    .trim = bad_trim,
    .extents = bad_extents,
};

NBDKIT_REGISTER_FILTER(filter)
