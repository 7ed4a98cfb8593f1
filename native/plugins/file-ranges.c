/* The file plugin's requests without data: zeroes and trims ranges, and reports holes. */

#define _GNU_SOURCE /* fallocate */

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "file.h"

int file_debug_zero = 0;

static bool is_unsupported(int error) {
  return error == EOPNOTSUPP || error == ENOTSUP || error == ENOSYS || error == ENOTTY ||
         error == ENODEV;
}

enum attempt { DONE, UNSUPPORTED, FAILED };

/* Shrinks a range to whole sectors: a block device cannot trim or zero parts of them by itself. */
static void shrink_to_sectors(const struct handle *handle, uint32_t *count, uint64_t *offset) {
  if (!handle->is_block_device)
    return;
  const uint64_t sector = handle->sector_bytes;
  const uint64_t end = (*offset + *count) / sector * sector;
  *offset = (*offset + sector - 1) / sector * sector;
  *count = *offset < end ? (uint32_t)(end - *offset) : 0;
}

/* Tries a fallocate mode; notes in *possible if the file system does not have it. */
static enum attempt try_fallocate(struct handle *handle, atomic_bool *possible, int mode,
                                  uint32_t count, uint64_t offset) {
  if (!*possible)
    return UNSUPPORTED;
  int result;
  do {
    result = fallocate(handle->fd, mode, (off_t)offset, (off_t)count);
  } while (result == -1 && errno == EINTR);
  if (result == 0)
    return DONE;
  if (is_unsupported(errno)) {
    *possible = false;
    return UNSUPPORTED;
  }
  nbdkit_error("fallocate: %m");
  return FAILED;
}

static enum attempt try_punch_hole(struct handle *handle, uint32_t count, uint64_t offset) {
  file_mapping_note_hole(handle->mapping, count, offset);
  return try_fallocate(handle, &handle->can_punch_hole, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       count, offset);
}

/* For file systems that punch holes but do not know FALLOC_FL_ZERO_RANGE. */
static enum attempt try_refill_hole(struct handle *handle, uint32_t count, uint64_t offset) {
  if (!handle->can_allocate)
    return UNSUPPORTED;
  enum attempt punched = try_punch_hole(handle, count, offset);
  return punched == DONE ? try_fallocate(handle, &handle->can_allocate, 0, count, offset) : punched;
}

static enum attempt try_zero_out(struct handle *handle, uint32_t count, uint64_t offset) {
  if (!handle->can_zero_out)
    return UNSUPPORTED;
  uint64_t range[2] = {offset, count};
  if (ioctl(handle->fd, BLKZEROOUT, range) == 0)
    return DONE;
  if (is_unsupported(errno)) {
    handle->can_zero_out = false;
    return UNSUPPORTED;
  }
  nbdkit_error("ioctl BLKZEROOUT: %m");
  return FAILED;
}

static enum attempt told(enum attempt attempt, const char *how) {
  if (file_debug_zero && attempt == DONE)
    nbdkit_debug("file: zero succeeded by %s", how);
  else if (file_debug_zero)
    nbdkit_debug("file: zero %s by %s", attempt == FAILED ? "failed" : "is not possible", how);
  return attempt;
}

/* Zeroes by any method except writing. */
static enum attempt try_zero(struct handle *handle, uint32_t count, uint64_t offset,
                             bool may_trim) {
  enum attempt attempt = UNSUPPORTED;
  if (may_trim)
    attempt = told(try_punch_hole(handle, count, offset), "punching a hole");
  if (attempt == UNSUPPORTED)
    attempt =
        told(try_fallocate(handle, &handle->can_zero_range, FALLOC_FL_ZERO_RANGE, count, offset),
             "zeroing the range");
  if (attempt == UNSUPPORTED)
    attempt = told(try_refill_hole(handle, count, offset), "punching a hole and allocating it");
  if (attempt == UNSUPPORTED)
    attempt = told(try_zero_out(handle, count, offset), "ioctl BLKZEROOUT");
  return attempt;
}

/* Writes zeroes to parts of sectors, which a device cannot zero by itself. */
static int write_zeroes(struct handle *handle, uint64_t offset, uint64_t end) {
  static const uint8_t zeroes[4096];
  while (offset < end) {
    const uint64_t left = end - offset;
    const uint32_t count = left < sizeof zeroes ? (uint32_t)left : sizeof zeroes;
    if (file_pwrite(handle, zeroes, count, offset, 0) == -1)
      return -1;
    offset += count;
  }
  return 0;
}

int file_zero(void *opaque, uint32_t count, uint64_t offset, uint32_t flags) {
  struct handle *handle = opaque;
  const uint64_t end = offset + count;
  uint64_t from = offset;
  shrink_to_sectors(handle, &count, &from);
  enum attempt attempt = UNSUPPORTED;
  if (count > 0)
    attempt = try_zero(handle, count, from, (flags & NBDKIT_FLAG_MAY_TRIM) != 0);
  if (attempt == UNSUPPORTED && file_debug_zero)
    nbdkit_debug("file: zero falls back to writing");
  if (attempt == UNSUPPORTED)
    errno = EOPNOTSUPP; /* the server writes zeroes instead */
  if (attempt != DONE || write_zeroes(handle, offset, from) == -1 ||
      write_zeroes(handle, from + count, end) == -1)
    return -1;
  return file_finish(handle, flags);
}

int file_trim(void *opaque, uint32_t count, uint64_t offset, uint32_t flags) {
  struct handle *handle = opaque;
  shrink_to_sectors(handle, &count, &offset);
  if (count > 0 && try_punch_hole(handle, count, offset) == FAILED)
    return -1;
  return file_finish(handle, flags);
}

/* There is no data from `offset` on: a hole up to the file's end. In a truncated file, the range
 * after that is not a hole, and reading it fails. */
static int add_rest(struct handle *handle, uint64_t offset, uint64_t end,
                    struct nbdkit_extents *extents) {
  const off_t file_end = lseek(handle->fd, 0, SEEK_END);
  if (file_end == -1) {
    nbdkit_error("cannot get the size of the file: %m");
    return -1;
  }
  const uint64_t hole_end = (uint64_t)file_end < end ? (uint64_t)file_end : end;
  if (hole_end > offset) {
    if (nbdkit_add_extent(extents, offset, hole_end - offset,
                          NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) == -1)
      return -1;
    offset = hole_end;
  }
  return offset == end ? 0 : nbdkit_add_extent(extents, offset, end - offset, 0);
}

/* Reports holes as the file system knows them. The file may be written meanwhile. */
int file_extents(void *opaque, uint32_t count, uint64_t offset, uint32_t flags,
                 struct nbdkit_extents *extents) {
  struct handle *handle = opaque;
  const uint64_t end = offset + count;
  while (offset < end) {
    off_t data = lseek(handle->fd, (off_t)offset, SEEK_DATA);
    if (data == -1 && errno == ENXIO)
      return add_rest(handle, offset, end, extents);
    if (data == -1) {
      nbdkit_error("lseek SEEK_DATA: %m");
      return -1;
    }
    const uint64_t hole_end = (uint64_t)data;
    if (hole_end > offset && nbdkit_add_extent(extents, offset, hole_end - offset,
                                               NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) == -1)
      return -1;
    off_t hole = lseek(handle->fd, data, SEEK_HOLE);
    if (hole == -1) {
      nbdkit_error("lseek SEEK_HOLE: %m");
      return -1;
    }
    if (nbdkit_add_extent(extents, hole_end, (uint64_t)hole - hole_end, 0) == -1)
      return -1;
    offset = (uint64_t)hole;
    if ((flags & NBDKIT_FLAG_REQ_ONE) != 0)
      return 0;
  }
  return 0;
}

/* A block device has no holes to report. */
int file_can_extents(void *opaque) {
  struct handle *handle = opaque;
  return !handle->is_block_device && lseek(handle->fd, 0, SEEK_HOLE) != -1;
}
