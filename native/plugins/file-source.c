/* What the file plugin serves: its parameters, and how a client's file is found and opened. */

#define _GNU_SOURCE

#include "file-source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

static struct settings only_settings; /* under nbdkit */

struct settings *file_settings(void) {
  return asyncnbd_instance != NULL ? asyncnbd_instance() : &only_settings;
}

static int parse_advice(const char *value) {
  struct settings *settings = file_settings();
  static const struct {
    const char *name;
    int advice;
  } words[] = {{"normal", POSIX_FADV_NORMAL},
               {"random", POSIX_FADV_RANDOM},
               {"sequential", POSIX_FADV_SEQUENTIAL}};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strcmp(value, words[i].name) == 0) {
      settings->access_advice = words[i].advice;
      return 0;
    }
  nbdkit_error("fadvise=%s: use normal, random or sequential", value);
  return -1;
}

/* Sets what to serve. If a parameter is given twice, the last counts, as under nbdkit. */
static int set_source(enum source source, char *path) {
  struct settings *settings = file_settings();
  if (path == NULL)
    return -1;
  if (settings->source != SOURCE_NONE && settings->source != source) {
    nbdkit_error("file=, dir=, fd= and dirfd= exclude each other: give only one of them");
    free(path);
    return -1;
  }
  free(settings->path);
  settings->source = source;
  settings->path = path;
  return 0;
}

static int set_fd(enum source source, const char *key, const char *value) {
  struct settings *settings = file_settings();
  int fd = -1;
  if (nbdkit_parse_int(key, value, &fd) == -1)
    return -1;
  if (fd <= STDERR_FILENO) {
    nbdkit_error("%s=%s: must be an open descriptor from %d on, above the standard streams", key,
                 value, STDERR_FILENO + 1);
    return -1;
  }
  char name[sizeof "descriptor " + 3 * sizeof fd];
  snprintf(name, sizeof name, "descriptor %d", fd);
  settings->fd = fd;
  return set_source(source, strdup(name));
}

static int set_cache(const char *value) {
  struct settings *settings = file_settings();
  settings->evicts = strcmp(value, "none") == 0;
  if (settings->evicts || strcmp(value, "default") == 0)
    return 0;
  nbdkit_error("cache=%s: use default or none", value);
  return -1;
}

int file_config(const char *key, const char *value) {
  if (strcmp(key, "file") == 0)
    return set_source(SOURCE_FILE, nbdkit_realpath(value));
  if (strcmp(key, "dir") == 0 || strcmp(key, "directory") == 0)
    return set_source(SOURCE_DIRECTORY, nbdkit_realpath(value));
  if (strcmp(key, "fd") == 0)
    return set_fd(SOURCE_FD, key, value);
  if (strcmp(key, "dirfd") == 0)
    return set_fd(SOURCE_DIRECTORY_FD, key, value);
  if (strcmp(key, "fadvise") == 0)
    return parse_advice(value);
  if (strcmp(key, "cache") == 0)
    return set_cache(value);
  nbdkit_error("unknown parameter '%s'", key);
  return -1;
}

static bool is_directory(const struct settings *settings) {
  return settings->source == SOURCE_DIRECTORY || settings->source == SOURCE_DIRECTORY_FD;
}

static bool is_by_fd(const struct settings *settings) {
  return settings->source == SOURCE_FD || settings->source == SOURCE_DIRECTORY_FD;
}

static int share_errors(void) {
  struct settings *settings = file_settings();
  settings->eviction_errors = calloc(1, sizeof *settings->eviction_errors);
  if (settings->eviction_errors == NULL) {
    nbdkit_error("no memory for cache=none");
    return -1;
  }
  file_eviction_errors_begin(settings->eviction_errors);
  return 0;
}

int file_config_complete(void) {
  const struct settings *settings = file_settings();
  if (settings->source == SOURCE_NONE) {
    nbdkit_error("you must supply [file=]<FILENAME> or dir=<DIRNAME> on the command line");
    return -1;
  }
  struct stat status;
  const int failed =
      is_by_fd(settings) ? fstat(settings->fd, &status) : stat(settings->path, &status);
  if (failed) {
    nbdkit_error("cannot examine %s: %m", settings->path);
    return -1;
  }
  if (is_directory(settings) && !S_ISDIR(status.st_mode)) {
    nbdkit_error("%s is not a directory", settings->path);
    return -1;
  }
  if (!is_directory(settings) && !S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    nbdkit_error("%s is neither a regular file nor a block device", settings->path);
    return -1;
  }
  return settings->evicts && settings->source == SOURCE_FD ? share_errors() : 0;
}

void file_source_unload(void) {
  struct settings *settings = file_settings();
  if (settings->eviction_errors != NULL)
    file_eviction_errors_end(settings->eviction_errors);
  free(settings->eviction_errors);
  free(settings->path);
}

/* A descriptor of the directory, which the caller closes, or -1 after an error. */
static int open_directory(const struct settings *settings) {
  /* Opens it by name: a duplicate would share the user's position in it. */
  int fd = settings->source == SOURCE_DIRECTORY_FD
               ? openat(settings->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
               : open(settings->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd == -1)
    nbdkit_error("cannot open %s: %m", settings->path);
  return fd;
}

static bool is_servable(int directory_fd, const char *name) {
  struct stat status;
  return fstatat(directory_fd, name, &status, 0) == 0 &&
         (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode));
}

int file_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports) {
  const struct settings *settings = file_settings();
  (void)readonly, (void)is_tls;
  if (!is_directory(settings))
    return nbdkit_add_export(exports, "", NULL);
  const int fd = open_directory(settings);
  if (fd == -1)
    return -1;
  DIR *directory = fdopendir(fd);
  if (directory == NULL) {
    nbdkit_error("cannot list %s: %m", settings->path);
    close(fd);
    return -1;
  }
  int result = 0;
  struct dirent *entry;
  while (result == 0 && (errno = 0, entry = readdir(directory)) != NULL)
    if (is_servable(fd, entry->d_name))
      result = nbdkit_add_export(exports, entry->d_name, NULL);
  if (result == 0 && errno != 0) {
    nbdkit_error("cannot list %s: %m", settings->path);
    result = -1;
  }
  closedir(directory);
  return result;
}

/* Opens `name` below `directory_fd`, for writing if wanted and possible. */
static int open_disk(int directory_fd, const char *name, bool readonly, bool *writable) {
  *writable = !readonly;
  int fd = readonly ? -1 : openat(directory_fd, name, O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (fd == -1 && (readonly || errno == EACCES || errno == EPERM || errno == EROFS)) {
    if (!readonly)
      nbdkit_debug("%s: not writable, opening it read-only: %m", name);
    *writable = false;
    fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  }
  if (fd == -1)
    nbdkit_error("cannot open %s: %m", name);
  return fd;
}

/* The export's name selects the file, which must lie directly in the directory. */
static int open_in_directory(bool readonly, bool *writable) {
  const struct settings *settings = file_settings();
  const char *name = nbdkit_export_name();
  if (name == NULL)
    return -1;
  if (*name == '\0' || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
      strcmp(name, "..") == 0) {
    nbdkit_error("export \"%s\": the name must be that of a file in %s", name, settings->path);
    errno = ENOENT;
    return -1;
  }
  const int directory_fd = open_directory(settings);
  if (directory_fd == -1)
    return -1;
  /* Opening a pipe could wait for ever. */
  int fd = -1;
  if (is_servable(directory_fd, name))
    fd = open_disk(directory_fd, name, readonly, writable);
  else
    nbdkit_error("export \"%s\": no such file or block device in %s", name, settings->path);
  close(directory_fd);
  return fd;
}

/* Duplicates the user's descriptor. The duplicate is writable if the original is. */
static int duplicate(const struct settings *settings, bool readonly, bool *writable) {
  const int flags = fcntl(settings->fd, F_GETFL);
  const int fd = flags == -1 ? -1 : fcntl(settings->fd, F_DUPFD_CLOEXEC, 0);
  if (fd == -1)
    nbdkit_error("cannot use %s: %m", settings->path);
  *writable = !readonly && (flags & O_ACCMODE) == O_RDWR;
  return fd;
}

int file_open_source(bool readonly, bool *writable) {
  const struct settings *settings = file_settings();
  if (is_directory(settings))
    return open_in_directory(readonly, writable);
  if (settings->source == SOURCE_FD)
    return duplicate(settings, readonly, writable);
  return open_disk(AT_FDCWD, settings->path, readonly, writable);
}
