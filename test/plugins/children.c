/* Tells what programs that it starts are given, at each stage of its life.
 *
 * log=FILE, to which a line is added at each stage: the signals that a child has blocked and
 * ignored, what its standard streams are, the lowest number of a descriptor that is free, and
 * whether nbdkit_stdio_safe. read=N reads so many bytes of stdin when it is configured, password=-
 * asks for one and shows it with -v; fail=STAGE fails there with words; shutdown=STAGE calls
 * nbdkit_shutdown there.
 */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *log_path = NULL;
static const char *fail_at = "";
static const char *shutdown_at = "";

static int stage(const char *name) {
  char command[1024];
  const int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(lowest);
  if (log_path != NULL) {
    snprintf(command, sizeof command,
             "exec 4>&1; echo %s $(sed -n 's/^Sig[BI].*:.//p' /proc/self/status) "
             "$(stat -L -c %%F /dev/fd/0 /dev/fd/4 /dev/fd/2 | tr ' \\n' '-,') "
             "lowest=%d safe=%d >>'%s'",
             name, lowest, nbdkit_stdio_safe(), log_path);
    if (system(command) != 0)
      return -1;
    snprintf(command, sizeof command, "%s echo %s says this; echo %s complains >&2",
             nbdkit_stdio_safe() ? "" : ":", name, name);
    if (system(command) != 0)
      return -1;
  }
  if (strcmp(shutdown_at, name) == 0)
    nbdkit_shutdown();
  if (strcmp(fail_at, name) == 0) {
    nbdkit_error("%s was told to fail", name);
    return -1;
  }
  return 0;
}

static void unload(void) {
  free(log_path);
}

static int config(const char *key, const char *value) {
  if (strcmp(key, "log") == 0) {
    log_path = nbdkit_absolute_path(value);
    return stage("config");
  }
  if (strcmp(key, "fail") == 0)
    fail_at = value;
  else if (strcmp(key, "password") == 0) {
    char *password;
    if (nbdkit_read_password(value, &password) == -1)
      return -1;
    nbdkit_debug("the password is %s", password);
    free(password);
  } else if (strcmp(key, "shutdown") == 0)
    shutdown_at = value;
  else if (strcmp(key, "read") == 0) {
    for (int bytes = atoi(value); bytes > 0; bytes--)
      getchar();
  } else {
    nbdkit_error("unknown parameter %s", key);
    return -1;
  }
  return 0;
}

static int config_complete(void) {
  return stage("config_complete");
}

static int get_ready(void) {
  return stage("get_ready");
}

static int after_fork(void) {
  return stage("after_fork");
}

static void *open_export(int readonly) {
  (void)readonly;
  return stage("open") == 0 ? NBDKIT_HANDLE_NOT_NEEDED : NULL;
}

static int64_t get_size(void *handle) {
  (void)handle;
  return 4096;
}

static int pread_export(void *handle, void *buffer, uint32_t count, uint64_t offset,
                        uint32_t flags) {
  (void)handle, (void)offset, (void)flags;
  memset(buffer, 0, count);
  return stage("pread");
}

static void cleanup(void) {
  stage("cleanup");
}

static struct nbdkit_plugin plugin = {
    .name = "children",
    .unload = unload,
    .config = config,
    .config_complete = config_complete,
    .get_ready = get_ready,
    .after_fork = after_fork,
    .cleanup = cleanup,
    .open = open_export,
    .get_size = get_size,
    .pread = pread_export,
};

NBDKIT_REGISTER_PLUGIN(plugin)
