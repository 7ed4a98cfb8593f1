/* A file as a disk, with asynchronous input and output: io_uring if the kernel allows it,
 * otherwise threads. A model for plugins that delegate their requests.
 */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "async-file.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

#define DEFAULT_THREADS 16
#define MAX_THREADS 1024
static struct disk only_disk; /* under a server without instances */

static struct disk *this_disk(void) {
  return asyncnbd_instance != NULL ? asyncnbd_instance() : &only_disk;
}

/* ---- parameters --------------------------------------------------------------------------- */

static void file_load(void) {
  this_disk()->threads = DEFAULT_THREADS;
  this_disk()->is_inline = true;
}

static int parse_engine(const char *value) {
  struct disk *disk = this_disk();
  if (strcmp(value, "auto") == 0)
    disk->wanted_engine = AUTO;
  else if (strcmp(value, "io_uring") == 0)
    disk->wanted_engine = URING;
  else if (strcmp(value, "threads") == 0)
    disk->wanted_engine = THREADS;
  else {
    nbdkit_error("engine=%s: use auto, io_uring or threads", value);
    return -1;
  }
  return 0;
}

static int parse_threads(const char *value) {
  struct disk *disk = this_disk();
  if (nbdkit_parse_unsigned("threads", value, &disk->threads) == -1)
    return -1;
  if (disk->threads >= 1 && disk->threads <= MAX_THREADS)
    return 0;
  nbdkit_error("threads=%s: use a number from 1 to %d", value, MAX_THREADS);
  return -1;
}

static int parse_switch(const char *value, bool *is_on) {
  const int answer = nbdkit_parse_bool(value);
  *is_on = answer == 1;
  return answer == -1 ? -1 : 0;
}

static int file_config(const char *key, const char *value) {
  struct disk *disk = this_disk();
  if (strcmp(key, "file") == 0) {
    free(disk->path);
    disk->path = nbdkit_realpath(value); /* the server changes directory in the background */
    return disk->path == NULL ? -1 : 0;
  }
  if (strcmp(key, "engine") == 0)
    return parse_engine(value);
  if (strcmp(key, "threads") == 0)
    return parse_threads(value);
  if (strcmp(key, "direct") == 0)
    return parse_switch(value, &disk->direct);
  if (strcmp(key, "inline") == 0)
    return parse_switch(value, &disk->is_inline);
  nbdkit_error("unknown parameter \"%s\"", key);
  return -1;
}

static int file_config_complete(void) {
  struct disk *disk = this_disk();
  if (disk->path != NULL)
    return 0;
  nbdkit_error("the file to serve is missing: add file=<FILE>");
  return -1;
}

static int start(struct disk *disk, const struct engine *candidate) {
  const int error = candidate->start(disk->threads, &disk->running);
  if (error != 0) {
    errno = error;
    return -1;
  }
  disk->engine = candidate;
  nbdkit_debug("async-file uses %s", disk->engine->name);
  return 0;
}

static int file_after_fork(void) {
  struct disk *disk = this_disk();
#ifdef HAVE_LIBURING
  if (disk->wanted_engine != THREADS && start(disk, &uring_engine) == 0)
    return 0;
#else
  errno = ENOSYS;
#endif
  if (disk->wanted_engine == URING) {
    nbdkit_error("engine=io_uring is not available: %m");
    return -1;
  }
  if (start(disk, &thread_engine) == 0)
    return 0;
  nbdkit_error("cannot start %u threads: %m", disk->threads);
  return -1;
}

static void file_cleanup(void) {
  struct disk *disk = this_disk();
  if (disk->engine != NULL)
    disk->engine->stop(disk->running);
}

static void file_unload(void) {
  struct disk *disk = this_disk();
  free(disk->path);
}

static void file_dump_plugin(void) {
#ifdef HAVE_LIBURING
  printf("async_file_io_uring=1\n");
#else
  printf("async_file_io_uring=0\n");
#endif
}

/* ---- open, and the disk's properties ------------------------------------------------------ */

static int examine(struct handle *handle) {
  const struct disk *disk = handle->disk;
  struct stat status;
  if (fstat(handle->fd, &status) == -1) {
    nbdkit_error("cannot examine %s: %m", disk->path);
    return -1;
  }
  handle->sector_bytes = 1;
  if (!S_ISBLK(status.st_mode))
    return 0;
  int is_readonly = 0;
  if (ioctl(handle->fd, BLKROGET, &is_readonly) == 0 && is_readonly)
    handle->writable = false;
  int sector_bytes = 0;
  if (ioctl(handle->fd, BLKSSZGET, &sector_bytes) == -1) {
    nbdkit_error("cannot get the sector size of %s: %m", disk->path);
    return -1;
  }
  if (sector_bytes < 1 || sector_bytes > MAX_SECTOR_BYTES) {
    nbdkit_error("%s: sectors of %d bytes are not supported", disk->path, sector_bytes);
    return -1;
  }
  handle->sector_bytes = (uint32_t)sector_bytes;
  return 0;
}

static void file_close(void *opaque) {
  struct handle *handle = opaque;
  if (handle->fd != -1)
    close(handle->fd);
  if (handle->direct_fd != -1)
    close(handle->direct_fd);
  free(handle);
}

static void *file_open(int readonly) {
  struct disk *disk = this_disk();
  struct handle *handle = calloc(1, sizeof *handle);
  if (handle == NULL) {
    nbdkit_error("cannot open %s: %m", disk->path);
    return NULL;
  }
  handle->disk = disk;
  handle->direct_fd = -1;
  handle->writable = !readonly;
  handle->fd = open(disk->path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (handle->fd == -1 && !readonly && (errno == EACCES || errno == EROFS || errno == EPERM)) {
    handle->writable = false;
    handle->fd = open(disk->path, O_RDONLY | O_CLOEXEC);
  }
  if (handle->fd == -1) {
    nbdkit_error("cannot open %s: %m", disk->path);
    goto failed;
  }
  if (examine(handle) == -1)
    goto failed;
  decide_what_is_done_at_once(handle);
  if (!disk->direct)
    return handle;
  handle->direct_fd =
      open(disk->path, (handle->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_DIRECT);
  if (handle->direct_fd != -1)
    return handle;
  nbdkit_error("cannot open %s for direct=true: %m", disk->path);

failed:
  file_close(handle);
  return NULL;
}

static int64_t file_get_size(void *opaque) {
  const struct handle *handle = opaque;
  const struct disk *disk = handle->disk;
  const off_t size = lseek(handle->fd, 0, SEEK_END); /* works for devices too */
  if (size == -1)
    nbdkit_error("cannot get the size of %s: %m", disk->path);
  return size;
}

static int file_can_write(void *opaque) {
  return ((struct handle *)opaque)->writable;
}

/* All descriptors refer to the same file: a flush of one covers the writes of all. */
static int file_can_multi_conn(void *opaque) {
  (void)opaque;
  return 1;
}

static int file_can_fua(void *opaque) {
  (void)opaque;
  return NBDKIT_FUA_NATIVE;
}

/* The methods that are used for a fast zero are fast, or fail at once. */
static int file_can_fast_zero(void *handle) {
  (void)handle;
  return 1;
}

static int file_block_size(void *opaque, uint32_t *minimum, uint32_t *preferred,
                           uint32_t *maximum) {
  const struct disk *disk = ((const struct handle *)opaque)->disk;
  *minimum = disk->direct ? 1 : 0; /* smaller requests are slower, but work */
  *preferred = disk->direct ? async_file_direct_alignment(opaque) : 0;
  *maximum = disk->direct ? UINT32_MAX : 0;
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "async-file",
    .version = "1.0.0",
    .longname = "asyncnbd asynchronous file plugin",
    .description = "A file as a disk, with any number of requests in flight.",
    .load = file_load,
    .unload = file_unload,
    .config = file_config,
    .config_complete = file_config_complete,
    .config_help = "file=<FILE>             The file to serve (required).\n"
                   "engine=<ENGINE>         auto (the default), io_uring or threads.\n"
                   "threads=<N>             Threads for engine=threads, 16 by default.\n"
                   "direct=true             Bypass the page cache (O_DIRECT), for requests that "
                   "are multiples of 4 KiB.\n"
                   "inline=false            Leave everything to the engine, even what could be "
                   "done at once.",
    .open = file_open,
    .close = file_close,
    .get_size = file_get_size,
    .can_write = file_can_write,
    .dump_plugin = file_dump_plugin,
    .can_fua = file_can_fua,
    .magic_config_key = "file",
    .can_multi_conn = file_can_multi_conn,
    .can_fast_zero = file_can_fast_zero,
    .after_fork = file_after_fork,
    .cleanup = file_cleanup,
    .block_size = file_block_size,
    .async_pread = async_file_pread,
    .async_pwrite = async_file_pwrite,
    .async_flush = async_file_flush,
    .async_trim = async_file_trim,
    .async_zero = async_file_zero,
    .async_cache = async_file_cache,
    .read_fd = async_file_read_fd,
    .write_fd = async_file_write_fd,
    .instance_bytes = sizeof(struct disk),
};

NBDKIT_REGISTER_PLUGIN(plugin)
