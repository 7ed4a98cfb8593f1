/* A plugin with every callback of nbdkit 1.32, each of which logs its call with all arguments, to
 * compare servers call by call.
 *
 * log=FILE; ANSWER=N for what a question like can_fua or thread_model answers
 * (block_size: the minimum); errno=N makes zero
 * fail so.
 */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_BYTES (INT64_C(64) << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *log_file = NULL;
static char early[4096]; /* what was logged before it was known where */
static int zero_errno = 0;

static struct {
  const char *question;
  int answer;
} answers[] = {
    {"can_write", 1},      {"can_flush", 1},       {"is_rotational", 0},
    {"can_trim", 1},       {"can_zero", 1},        {"can_fua", NBDKIT_FUA_NATIVE},
    {"can_multi_conn", 1}, {"can_extents", 1},     {"can_cache", NBDKIT_CACHE_NATIVE},
    {"can_fast_zero", 1},  {"preconnect", 0},      {"thread_model", NBDKIT_THREAD_MODEL_PARALLEL},
    {"get_ready", 0},      {"config_complete", 0}, {"after_fork", 0},
    {"block_size", 1},
};

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *format, ...) {
  va_list args;
  va_start(args, format);
  pthread_mutex_lock(&lock);
  if (log_file != NULL) {
    vfprintf(log_file, format, args);
    fputc('\n', log_file);
    fflush(log_file);
  } else {
    const size_t used = strlen(early);
    vsnprintf(early + used, sizeof early - used - 1, format, args);
    strcat(early, "\n");
  }
  pthread_mutex_unlock(&lock);
  va_end(args);
}

static int *answer_to(const char *question) {
  for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
    if (strcmp(answers[i].question, question) == 0)
      return &answers[i].answer;
  return NULL;
}

static int log_config(const char *key, const char *value) {
  if (strcmp(key, "log") == 0) {
    log_file = fopen(value, "w");
    if (log_file != NULL)
      fputs(early, log_file);
    return log_file == NULL ? -1 : 0;
  }
  note("config %s=%s", key, value);
  int *answer = strcmp(key, "errno") == 0 ? &zero_errno : answer_to(key);
  return answer == NULL ? -1 : nbdkit_parse_int(key, value, answer);
}

static void log_load(void) {
  note("load");
}

static void log_unload(void) {
  note("unload");
  if (log_file != NULL)
    fclose(log_file);
}

static void log_cleanup(void) {
  note("cleanup");
}

#define ANSWERED(question)                                                                         \
  static int log_##question(void) {                                                                \
    note("%s", #question);                                                                         \
    return *answer_to(#question);                                                                  \
  }
ANSWERED(config_complete)
ANSWERED(thread_model)
ANSWERED(get_ready)
ANSWERED(after_fork)

#define ANSWERED_BY_HANDLE(question)                                                               \
  static int log_##question(void *handle) {                                                        \
    note("%s %s", #question, (const char *)handle);                                                \
    return *answer_to(#question);                                                                  \
  }
ANSWERED_BY_HANDLE(can_write)
ANSWERED_BY_HANDLE(can_flush)
ANSWERED_BY_HANDLE(is_rotational)
ANSWERED_BY_HANDLE(can_trim)
ANSWERED_BY_HANDLE(can_zero)
ANSWERED_BY_HANDLE(can_fua)
ANSWERED_BY_HANDLE(can_multi_conn)
ANSWERED_BY_HANDLE(can_extents)
ANSWERED_BY_HANDLE(can_cache)
ANSWERED_BY_HANDLE(can_fast_zero)

static int log_preconnect(int readonly) {
  note("preconnect readonly=%d", readonly);
  return *answer_to("preconnect");
}

static int log_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports) {
  note("list_exports readonly=%d is_tls=%d", readonly, is_tls);
  return nbdkit_add_export(exports, "one", "the first") == -1 ||
                 nbdkit_use_default_export(exports) == -1
             ? -1
             : 0;
}

static const char *log_default_export(int readonly, int is_tls) {
  note("default_export readonly=%d is_tls=%d", readonly, is_tls);
  return "the-default";
}

static void *log_open(int readonly) {
  const char *name = nbdkit_export_name();
  note("open readonly=%d name=%s is_tls=%d", readonly, name, nbdkit_is_tls());
  return (void *)name;
}

static void log_close(void *handle) {
  note("close %s", (const char *)handle);
}

static int64_t log_get_size(void *handle) {
  note("get_size %s", (const char *)handle);
  return SIZE_BYTES;
}

static const char *log_export_description(void *handle) {
  note("export_description %s", (const char *)handle);
  return "described";
}

static int log_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum) {
  note("block_size %s", (const char *)handle);
  *minimum = (uint32_t)*answer_to("block_size");
  *preferred = 4096;
  *maximum = 32 << 20;
  return 0;
}

static int log_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  note("pread %s %u@%lu flags=%u", (const char *)handle, count, (unsigned long)offset, flags);
  memset(buf, 0, count);
  return 0;
}

/* A sum of the data, so that it is seen whether zeroes are what is written. */
static int log_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                      uint32_t flags) {
  unsigned sum = 0;
  for (uint32_t i = 0; i < count; i++)
    sum = sum * 31 + ((const uint8_t *)buf)[i];
  note("pwrite %s %u@%lu flags=%u sum=%u", (const char *)handle, count, (unsigned long)offset,
       flags, sum);
  return 0;
}

static int log_flush(void *handle, uint32_t flags) {
  note("flush %s flags=%u", (const char *)handle, flags);
  return 0;
}

static int log_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  note("trim %s %u@%lu flags=%u", (const char *)handle, count, (unsigned long)offset, flags);
  return 0;
}

static int log_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  note("zero %s %u@%lu flags=%u", (const char *)handle, count, (unsigned long)offset, flags);
  if (zero_errno == 0)
    return 0;
  nbdkit_set_error(zero_errno);
  return -1;
}

static int log_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                       struct nbdkit_extents *extents) {
  note("extents %s %u@%lu flags=%u", (const char *)handle, count, (unsigned long)offset, flags);
  return nbdkit_add_extent(extents, offset, count, 0);
}

static int log_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  note("cache %s %u@%lu flags=%u", (const char *)handle, count, (unsigned long)offset, flags);
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "calllog",
    .load = log_load,
    .unload = log_unload,
    .config = log_config,
    .config_complete = log_config_complete,
    .open = log_open,
    .close = log_close,
    .get_size = log_get_size,
    .can_write = log_can_write,
    .can_flush = log_can_flush,
    .is_rotational = log_is_rotational,
    .can_trim = log_can_trim,
    .can_zero = log_can_zero,
    .can_fua = log_can_fua,
    .pread = log_pread,
    .pwrite = log_pwrite,
    .flush = log_flush,
    .trim = log_trim,
    .zero = log_zero,
    .can_multi_conn = log_can_multi_conn,
    .can_extents = log_can_extents,
    .extents = log_extents,
    .can_cache = log_can_cache,
    .cache = log_cache,
    .thread_model = log_thread_model,
    .can_fast_zero = log_can_fast_zero,
    .preconnect = log_preconnect,
    .get_ready = log_get_ready,
    .after_fork = log_after_fork,
    .list_exports = log_list_exports,
    .default_export = log_default_export,
    .export_description = log_export_description,
    .cleanup = log_cleanup,
    .block_size = log_block_size,
};

NBDKIT_REGISTER_PLUGIN(plugin)
