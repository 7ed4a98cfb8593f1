/* The disk of the plugins filed and asyncfiled: 1 MiB in a file without a name, whose descriptor
 * the server may use. fd=append: by a descriptor that splice(2) does not write to. A plugin defines
 * _GNU_SOURCE and includes nbdkit-plugin.h before. */
#ifndef ASYNCNBD_TEST_FILED_H
#define ASYNCNBD_TEST_FILED_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (1 << 20)

static int file = -1;
static int named = -1; /* to the server */
static bool is_append;

static int filed_config(const char *key, const char *value) {
  if (strcmp(key, "fd") == 0 && strcmp(value, "append") == 0)
    return is_append = true, 0;
  nbdkit_error("unknown parameter %s=%s", key, value);
  return -1;
}

static int filed_get_ready(void) {
  char path[64];
  file = memfd_create("filed", MFD_CLOEXEC);
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  named = file == -1 ? -1 : open(path, O_RDWR | O_CLOEXEC | (is_append ? O_APPEND : 0));
  if (named != -1 && ftruncate(file, SIZE) == 0)
    return 0;
  nbdkit_error("cannot make a file: %m");
  return -1;
}

static void filed_unload(void) {
  close(named);
  close(file);
}

static void *filed_open(int readonly) {
  (void)readonly;
  return &file;
}

static int64_t filed_get_size(void *handle) {
  (void)handle;
  return SIZE;
}

static int filed_fd(void *handle) {
  (void)handle;
  return named;
}

#endif
