/* A file or a block device as a disk; with dir=, each regular file of a directory as an export. */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-source.h"
#include "file.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static int examine_block_device(struct handle *handle) {
  int kernel_readonly = 0;
  if (ioctl(handle->fd, BLKROGET, &kernel_readonly) == 0 && kernel_readonly)
    handle->writable = false;
  int sector_bytes = 0;
  if (ioctl(handle->fd, BLKSSZGET, &sector_bytes) == -1) {
    nbdkit_error("cannot get the block device's sector size: %m");
    return -1;
  }
  handle->sector_bytes = (unsigned)sector_bytes;
  return 0;
}

static void file_unload(void) {
  file_mapping_unload();
  file_source_unload();
}

static void *file_open(int readonly) {
  const struct settings *settings = file_settings();
  struct handle *handle = calloc(1, sizeof *handle);
  if (handle == NULL) {
    nbdkit_error("no memory to open a file");
    return NULL;
  }
  handle->fd = file_open_source(readonly, &handle->writable);
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
  return 1; /* all handles share the kernel's page cache, which fdatasync writes out */
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
  nbdkit_error("data that was written before could not be written out to the disk: %m");
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

/* With cache=none, data must go through pread and pwrite, which evict it. */
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
                   "fd=<FD>, dirfd=<FD>   The same, given as an open descriptor.\n"
                   "cache=default|none    none: do not leave used data in the page cache.\n"
                   "fadvise=normal|random|sequential\n"
                   "                      How clients will read; normal by default.",
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
