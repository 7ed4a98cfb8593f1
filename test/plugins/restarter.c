/* A plugin that executes its process anew, with one more parameter, before it gets ready: as those
   do which need other libraries than the environment has had dlopen find. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define MOST_WORDS 64

static char *note = NULL;
static int is_restarted = 0;

static int restarter_config(const char *key, const char *value) {
  if (strcmp(key, "note") == 0)
    note = strdup(value);
  else if (strcmp(key, "restarted") == 0)
    is_restarted = 1;
  else
    return -1;
  return 0;
}

/* Returns if that fails, or has been done. */
static void restart(void) {
  static char text[8192];
  char *words[MOST_WORDS + 2];
  int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  ssize_t length = fd == -1 ? -1 : read(fd, text, sizeof text - 1);
  if (fd != -1)
    close(fd);
  if (is_restarted || length <= 0)
    return;
  size_t count = 0;
  for (char *word = text; word < text + length && count < MOST_WORDS; word += strlen(word) + 1)
    words[count++] = word;
  words[count++] = "restarted=1";
  words[count] = NULL;
  execvp("/proc/self/exe", words);
}

static int restarter_get_ready(void) {
  restart();
  return is_restarted && note != NULL ? 0 : -1;
}

static void restarter_dump_plugin(void) {
  restart();
  printf("restarted=%d\n", is_restarted);
}

static void *restarter_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t restarter_get_size(void *handle) {
  (void)handle;
  return (int64_t)strlen(note);
}

static int restarter_pread(void *handle, void *buf, uint32_t count, uint64_t offset) {
  (void)handle;
  memcpy(buf, note + offset, count);
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "restarter",
    .config = restarter_config,
    .get_ready = restarter_get_ready,
    .dump_plugin = restarter_dump_plugin,
    .open = restarter_open,
    .get_size = restarter_get_size,
    .pread = restarter_pread,
};

NBDKIT_REGISTER_PLUGIN(plugin)
