/* A disk that says things: in its configuration (lines=N for debugging and then an error, errors=N;
 * refuse=1: that it refuses), on a thread of its own between after_fork and cleanup (thread=TEXT),
 * and at its end, also to a file, ended=PATH or that of the environment. open=SECONDS: how long an
 * opening takes.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static const char *said;
static const char *ended;
static bool refuses;
static unsigned open_seconds;
static pthread_t thread;

static int noisy_config(const char *key, const char *value) {
  if (strcmp(key, "lines") == 0) {
    const int lines = atoi(value);
    for (int i = 0; i < lines; i++)
      nbdkit_debug("line %d", i);
    nbdkit_error("said after %d lines", lines);
  } else if (strcmp(key, "errors") == 0) {
    const int lines = atoi(value);
    for (int i = 0; i < lines; i++)
      nbdkit_error("error %d", i);
  } else if (strcmp(key, "refuse") == 0) {
    refuses = true;
  } else if (strcmp(key, "thread") == 0) {
    said = value;
  } else if (strcmp(key, "ended") == 0) {
    ended = value;
  } else if (strcmp(key, "open") == 0) {
    open_seconds = (unsigned)atoi(value);
  }
  return 0;
}

static int noisy_get_ready(void) {
  nbdkit_error("getting ready");
  if (refuses)
    nbdkit_error("refused for good");
  return refuses ? -1 : 0;
}

static void *say(void *unused) {
  (void)unused;
  nbdkit_error("%s: of a thread", said);
  nbdkit_debug("%s: of a thread, for debugging", said);
  return NULL;
}

static int noisy_after_fork(void) {
  if (said != NULL && pthread_create(&thread, NULL, say, NULL) != 0)
    return -1;
  return 0;
}

static void noisy_cleanup(void) {
  if (said != NULL)
    pthread_join(thread, NULL);
}

static void noisy_unload(void) {
  nbdkit_error("unloading");
  const char *path = ended != NULL ? ended : getenv("NOISY_ENDED");
  FILE *file = path != NULL ? fopen(path, "a") : NULL;
  if (file == NULL)
    return;
  fputs("unload\n", file);
  fclose(file);
}

static void *noisy_open(int readonly) {
  (void)readonly;
  sleep(open_seconds);
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t noisy_get_size(void *handle) {
  (void)handle;
  return 4096;
}

static int noisy_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle;
  (void)offset;
  (void)flags;
  memset(buf, 0, count);
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "noisy",
    .unload = noisy_unload,
    .config = noisy_config,
    .get_ready = noisy_get_ready,
    .after_fork = noisy_after_fork,
    .cleanup = noisy_cleanup,
    .open = noisy_open,
    .get_size = noisy_get_size,
    .pread = noisy_pread,
};

NBDKIT_REGISTER_PLUGIN(plugin)
