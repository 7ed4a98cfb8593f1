/* A plugin whose every callback can be told to fail, to be slow, or to count who is inside.
 *
 * fail=CALLBACK      that callback fails; fail-errno=N with this errno, silently
 * model=0..3         the thread model
 * delay-ms=N         each pread and pwrite takes so long
 * quick-below=BYTES  … except those below this offset
 * log=FILE           a line for every callback, and the most calls that were inside at once
 */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define SIZE_BYTES (INT64_C(1) << 20)

static const char *failing = "";
static int failing_errno = 0;
static int model = NBDKIT_THREAD_MODEL_PARALLEL;
static unsigned delay_ms = 0;
static uint64_t quick_below = 0;
static FILE *log_file = NULL;
static char *shutdown_on = NULL;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned inside = 0;
static unsigned most_inside = 0;
static unsigned handles = 0;
static unsigned most_handles = 0;
static uint8_t disk[SIZE_BYTES];

static void note(const char *callback) {
  if (log_file == NULL)
    return;
  pthread_mutex_lock(&lock);
  fprintf(log_file, "%s\n", callback);
  fflush(log_file);
  pthread_mutex_unlock(&lock);
}

/* The result of a callback that returns int. */
static int outcome(const char *callback) {
  note(callback);
  if (shutdown_on != NULL && strcmp(shutdown_on, callback) == 0)
    nbdkit_shutdown();
  if (strcmp(failing, callback) != 0)
    return 0;
  if (failing_errno != 0)
    nbdkit_set_error(failing_errno);
  else
    nbdkit_error("%s was told to fail", callback);
  errno = EIO;
  return -1;
}

static void enter(uint64_t offset) {
  pthread_mutex_lock(&lock);
  inside++;
  most_inside = inside > most_inside ? inside : most_inside;
  pthread_mutex_unlock(&lock);
  if (delay_ms > 0 && offset >= quick_below)
    nanosleep(&(struct timespec){delay_ms / 1000, delay_ms % 1000 * 1000000L}, NULL);
}

static void leave(void) {
  pthread_mutex_lock(&lock);
  inside--;
  pthread_mutex_unlock(&lock);
}

static int probe_config(const char *key, const char *value) {
  if (strcmp(key, "fail") == 0)
    failing = value;
  else if (strcmp(key, "fail-errno") == 0)
    return nbdkit_parse_int(key, value, &failing_errno);
  else if (strcmp(key, "model") == 0)
    return nbdkit_parse_int(key, value, &model);
  else if (strcmp(key, "delay-ms") == 0)
    return nbdkit_parse_unsigned(key, value, &delay_ms);
  else if (strcmp(key, "quick-below") == 0)
    return nbdkit_parse_uint64_t(key, value, &quick_below);
  else if (strcmp(key, "shutdown-on") == 0)
    shutdown_on = strdup(value);
  else if (strcmp(key, "log") == 0)
    log_file = fopen(value, "w");
  else if (strncmp(key, "unwanted", strlen("unwanted")) == 0)
    return -1; /* without a word */
  else
    return outcome("config");
  return 0;
}

static int probe_config_complete(void) {
  return outcome("config_complete");
}

static int probe_thread_model(void) {
  return outcome("thread_model") == -1 ? -1 : model;
}

static int probe_get_ready(void) {
  return outcome("get_ready");
}

static int probe_after_fork(void) {
  return outcome("after_fork");
}

static int probe_preconnect(int readonly) {
  (void)readonly;
  return outcome("preconnect");
}

static int probe_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports) {
  (void)readonly, (void)is_tls;
  return outcome("list_exports") == -1 ? -1 : nbdkit_use_default_export(exports);
}

static const char *probe_default_export(int readonly, int is_tls) {
  (void)readonly, (void)is_tls;
  return outcome("default_export") == -1 ? NULL : "";
}

static void *probe_open(int readonly) {
  (void)readonly;
  if (outcome("open") == -1)
    return NULL;
  pthread_mutex_lock(&lock);
  handles++;
  most_handles = handles > most_handles ? handles : most_handles;
  pthread_mutex_unlock(&lock);
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static void probe_close(void *handle) {
  (void)handle;
  pthread_mutex_lock(&lock);
  handles--;
  pthread_mutex_unlock(&lock);
  note("close");
}

static int64_t probe_get_size(void *handle) {
  (void)handle;
  return outcome("get_size") == -1 ? -1 : SIZE_BYTES;
}

static int probe_can_write(void *handle) {
  (void)handle;
  return outcome("can_write") == -1 ? -1 : 1;
}

static int probe_can_fua(void *handle) {
  (void)handle;
  return outcome("can_fua") == -1 ? -1 : NBDKIT_FUA_NATIVE;
}

static int probe_can_multi_conn(void *handle) {
  (void)handle;
  return 1;
}

static int probe_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                            uint32_t *maximum) {
  (void)handle;
  *minimum = 1;
  *preferred = 4096;
  *maximum = 0xffffffff;
  return outcome("block_size");
}

static int probe_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)flags;
  enter(offset);
  memcpy(buf, disk + offset, count);
  int result = outcome("pread");
  leave();
  return result;
}

static int probe_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                        uint32_t flags) {
  (void)handle, (void)flags;
  enter(offset);
  int result = outcome("pwrite");
  if (result == 0)
    memcpy(disk + offset, buf, count);
  leave();
  return result;
}

static int probe_flush(void *handle, uint32_t flags) {
  (void)handle, (void)flags;
  return outcome("flush");
}

static int probe_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)count, (void)offset, (void)flags;
  return outcome("trim");
}

static void probe_cleanup(void) {
  note("cleanup");
}

static void probe_unload(void) {
  if (log_file != NULL) {
    fprintf(log_file, "unload\ninside=%u handles=%u\n", most_inside, most_handles);
    fclose(log_file);
  }
  free(shutdown_on);
}

static struct nbdkit_plugin plugin = {
    .name = "probe",
    .version = "1",
    .unload = probe_unload,
    .config = probe_config,
    .config_complete = probe_config_complete,
    .thread_model = probe_thread_model,
    .get_ready = probe_get_ready,
    .after_fork = probe_after_fork,
    .preconnect = probe_preconnect,
    .list_exports = probe_list_exports,
    .default_export = probe_default_export,
    .open = probe_open,
    .close = probe_close,
    .get_size = probe_get_size,
    .can_write = probe_can_write,
    .can_fua = probe_can_fua,
    .can_multi_conn = probe_can_multi_conn,
    .block_size = probe_block_size,
    .pread = probe_pread,
    .pwrite = probe_pwrite,
    .flush = probe_flush,
    .trim = probe_trim,
    .cleanup = probe_cleanup,
    .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)
