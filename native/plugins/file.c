/* A file or a block device as a disk; with dir=, each regular file of a directory as an export.
 */

#define _GNU_SOURCE /* O_PATH */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* The parameter that says what to serve. */
enum source { SOURCE_NONE, SOURCE_FILE, SOURCE_DIRECTORY, SOURCE_FD, SOURCE_DIRECTORY_FD };

struct settings {
  enum source source;
  char *path;        /* of the file or directory; for a descriptor, its name in messages */
  int fd;            /* the user's descriptor for fd= and dirfd=, which stays open */
  int access_advice; /* POSIX_FADV_* */
  bool evicts;       /* cache=none */
  struct file_eviction_errors *eviction_errors; /* if it evicts and all handles share one file */
};

static struct settings only_settings; /* under nbdkit */

static struct settings *this_settings(void) {
  return asyncnbd_instance != NULL ? asyncnbd_instance() : &only_settings;
}

static int parse_advice(const char *value) {
  struct settings *settings = this_settings();
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

/* Sets it from a parameter. If one is given twice, the last counts, as under nbdkit. */
static int set_source(enum source source, char *path) {
  struct settings *settings = this_settings();
  if (path == NULL)
    return -1;
  if (settings->source != SOURCE_NONE && settings->source != source) {
    nbdkit_error("file=, dir=, fd= and dirfd= exclude each other: give one of them");
    free(path);
    return -1;
  }
  free(settings->path);
  settings->source = source;
  settings->path = path;
  return 0;
}

static int set_fd(enum source source, const char *key, const char *value) {
  struct settings *settings = this_settings();
  int fd = -1;
  if (nbdkit_parse_int(key, value, &fd) == -1)
    return -1;
  if (fd <= STDERR_FILENO) {
    nbdkit_error("%s=%s: must be an open descriptor above those of the standard streams", key,
                 value);
    return -1;
  }
  char name[sizeof "descriptor " + 3 * sizeof fd];
  snprintf(name, sizeof name, "descriptor %d", fd);
  settings->fd = fd;
  return set_source(source, strdup(name));
}

static int set_cache(const char *value) {
  struct settings *settings = this_settings();
  settings->evicts = strcmp(value, "none") == 0;
  if (settings->evicts || strcmp(value, "default") == 0)
    return 0;
  nbdkit_error("cache=%s: use default or none", value);
  return -1;
}

static int file_config(const char *key, const char *value) {
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
  struct settings *settings = this_settings();
  settings->eviction_errors = calloc(1, sizeof *settings->eviction_errors);
  if (settings->eviction_errors == NULL) {
    nbdkit_error("no memory for cache=none");
    return -1;
  }
  file_eviction_errors_begin(settings->eviction_errors);
  return 0;
}

static int file_config_complete(void) {
  const struct settings *settings = this_settings();
  if (settings->source == SOURCE_NONE) {
    nbdkit_error("you must supply [file=]<FILENAME> or dir=<DIRNAME> on the command line");
    return -1;
  }
  struct stat status;
  const int failed =
      is_by_fd(settings) ? fstat(settings->fd, &status) : stat(settings->path, &status);
  if (failed) {
    nbdkit_error("%s: %m", settings->path);
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

static void file_unload(void) {
  struct settings *settings = this_settings();
  file_mapping_unload();
  if (settings->eviction_errors != NULL)
    file_eviction_errors_end(settings->eviction_errors);
  free(settings->eviction_errors);
  free(settings->path);
}

/* A descriptor of the directory to be closed, or -1 after an error. */
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

static int file_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports) {
  const struct settings *settings = this_settings();
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
  const struct settings *settings = this_settings();
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

/* Duplicates the user's descriptor; writable if that is. */
static int duplicate(const struct settings *settings, bool readonly, bool *writable) {
  const int flags = fcntl(settings->fd, F_GETFL);
  const int fd = flags == -1 ? -1 : fcntl(settings->fd, F_DUPFD_CLOEXEC, 0);
  if (fd == -1)
    nbdkit_error("cannot use %s: %m", settings->path);
  *writable = !readonly && (flags & O_ACCMODE) == O_RDWR;
  return fd;
}

static int open_source(bool readonly, bool *writable) {
  const struct settings *settings = this_settings();
  if (is_directory(settings))
    return open_in_directory(readonly, writable);
  if (settings->source == SOURCE_FD)
    return duplicate(settings, readonly, writable);
  return open_disk(AT_FDCWD, settings->path, readonly, writable);
}

static int examine_block_device(struct handle *handle) {
  int kernel_readonly = 0;
  if (ioctl(handle->fd, BLKROGET, &kernel_readonly) == 0 && kernel_readonly)
    handle->writable = false;
  int sector_bytes = 0;
  if (ioctl(handle->fd, BLKSSZGET, &sector_bytes) == -1) {
    nbdkit_error("cannot get the sector size: %m");
    return -1;
  }
  handle->sector_bytes = (unsigned)sector_bytes;
  return 0;
}

static void *file_open(int readonly) {
  const struct settings *settings = this_settings();
  struct handle *handle = calloc(1, sizeof *handle);
  if (handle == NULL) {
    nbdkit_error("no memory to open a file");
    return NULL;
  }
  handle->fd = open_source(readonly, &handle->writable);
  if (handle->fd == -1) {
    free(handle);
    return NULL;
  }
  struct stat status;
  if (fstat(handle->fd, &status) == -1) {
    nbdkit_error("cannot examine the opened file: %m");
    goto failed;
  }
  handle->is_block_device = S_ISBLK(status.st_mode);
  if (handle->is_block_device && examine_block_device(handle) == -1)
    goto failed;
  handle->can_punch_hole = true;
  handle->can_zero_range = true;
  handle->can_allocate = !handle->is_block_device;
  handle->can_zero_out = handle->is_block_device;
  if (settings->access_advice != POSIX_FADV_NORMAL)
    posix_fadvise(handle->fd, 0, 0, settings->access_advice); /* a hint: failure does not matter */
  handle->evicts = settings->evicts;
  if (handle->evicts)
    file_eviction_begin(&handle->eviction, settings->eviction_errors);
  else
    handle->mapping = file_mapping_get(handle->fd, settings->access_advice);
  return handle;

failed:
  close(handle->fd);
  free(handle);
  return NULL;
}

static void file_close(void *opaque) {
  struct handle *handle = opaque;
  file_mapping_release(handle->mapping);
  if (handle->evicts)
    file_eviction_end(&handle->eviction, handle->fd);
  close(handle->fd);
  free(handle);
}

static int64_t file_get_size(void *opaque) {
  struct handle *handle = opaque;
  off_t end = lseek(handle->fd, 0, SEEK_END); /* right for block devices too */
  if (end == -1)
    nbdkit_error("cannot get the size of the file: %m");
  return end;
}

static int file_can_write(void *opaque) {
  struct handle *handle = opaque;
  return handle->writable;
}

static int file_can_multi_conn(void *opaque) {
  (void)opaque;
  return 1; /* all handles share the kernel's page cache, which fdatasync empties */
}

static int file_can_fua(void *opaque) {
  (void)opaque;
  return NBDKIT_FUA_NATIVE;
}

static int file_can_cache(void *opaque) {
  (void)opaque;
  return NBDKIT_CACHE_NATIVE;
}

static int file_can_trim(void *opaque) {
  (void)opaque;
  return 1; /* a hint: nothing happens if holes cannot be made */
}

static int file_pread(void *opaque, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)flags;
  const struct handle *handle = opaque;
  if (file_mapping_read(handle->mapping, handle->fd, buf, count, offset))
    return 0;
  uint8_t *to = buf;
  const uint64_t end = offset + count;
  while (offset < end) {
    ssize_t done = pread(handle->fd, to, end - offset, (off_t)offset);
    if (done == -1 && errno == EINTR)
      continue;
    if (done == -1) {
      nbdkit_error("pread: %m");
      return -1;
    }
    if (done == 0) {
      nbdkit_error("pread: unexpected end of file at offset %" PRIu64 ", was the file truncated?",
                   offset);
      errno = EIO;
      return -1;
    }
    to += done;
    offset += (uint64_t)done;
  }
  if (handle->evicts)
    file_eviction_read(handle->fd, count, end - count);
  else
    file_mapping_note_read(handle->mapping, count, end - count);
  return 0;
}

static int file_flush(void *opaque, uint32_t flags) {
  (void)flags;
  struct handle *handle = opaque;
  if (!handle->evicts) {
    if (fdatasync(handle->fd) == 0)
      return 0;
    nbdkit_error("fdatasync: %m");
    return -1;
  }
  const int error = file_eviction_flush(&handle->eviction, handle->fd);
  if (error == 0)
    return 0;
  errno = error;
  nbdkit_error("what has been written could not be written out: %m");
  return -1;
}

int file_finish(struct handle *handle, uint32_t flags) {
  return (flags & NBDKIT_FLAG_FUA) != 0 ? file_flush(handle, 0) : 0;
}

int file_pwrite(void *opaque, const void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  struct handle *handle = opaque;
  const uint8_t *from = buf;
  while (count > 0) {
    ssize_t done = pwrite(handle->fd, from, count, (off_t)offset);
    if (done == -1 && errno == EINTR)
      continue;
    if (done == -1) {
      nbdkit_error("pwrite: %m");
      return -1;
    }
    if (handle->evicts)
      file_eviction_write(&handle->eviction, handle->fd, (uint32_t)done, offset);
    from += done;
    count -= (uint32_t)done;
    offset += (uint64_t)done;
  }
  return file_finish(handle, flags);
}

static int file_cache(void *opaque, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)flags;
  const struct handle *handle = opaque;
  int error = posix_fadvise(handle->fd, (off_t)offset, (off_t)count, POSIX_FADV_WILLNEED);
  if (error == 0)
    return 0;
  errno = error;
  nbdkit_error("posix_fadvise: %m");
  return -1;
}

/* Without pread and pwrite, data would stay in the page cache. */
static int file_fd(void *opaque) {
  const struct handle *handle = opaque;
  return handle->evicts ? -1 : handle->fd;
}

static struct nbdkit_plugin plugin = {
    .name = "file",
    .version = "1.0.0",
    .longname = "asyncnbd file plugin",
    .description = "Serves a file or a block device.",
    .load = file_mapping_load,
    .unload = file_unload,
    .config = file_config,
    .config_complete = file_config_complete,
    .config_help = "[file=]<FILENAME>     The file or block device to serve.\n"
                   "dir=<DIRNAME>         Serve the files of a directory, as exports.\n"
                   "fd=<FD>, dirfd=<FD>   The same, of a descriptor that is open.\n"
                   "cache=default|none    Whether to keep in the page cache what has been used.\n"
                   "fadvise=normal|random|sequential\n"
                   "                      How clients will read, normal by default.",
    .magic_config_key = "file",
    .list_exports = file_list_exports,
    .open = file_open,
    .close = file_close,
    .get_size = file_get_size,
    .can_write = file_can_write,
    .can_trim = file_can_trim,
    .can_fua = file_can_fua,
    .can_multi_conn = file_can_multi_conn,
    .can_cache = file_can_cache,
    .pread = file_pread,
    .pwrite = file_pwrite,
    .flush = file_flush,
    .trim = file_trim,
    .zero = file_zero,
    .cache = file_cache,
    .can_extents = file_can_extents,
    .extents = file_extents,
    .read_fd = file_fd,
    .write_fd = file_fd,
    .errno_is_preserved = 1,
    .instance_bytes = sizeof(struct settings),
};

NBDKIT_REGISTER_PLUGIN(plugin)
