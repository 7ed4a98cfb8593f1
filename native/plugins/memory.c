/* A disk in memory of up to 2^63-1 bytes that takes only as much memory as was written. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "memory-chunks.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct disk only_disk; /* under nbdkit */

static struct disk *this_disk(void) {
  return asyncnbd_instance != NULL ? asyncnbd_instance() : &only_disk;
}

static void memory_load(void) {
  struct disk *disk = this_disk();
  disk->size_bytes = -1;
  pthread_mutex_init(&disk->arena_lock, NULL);
}

static int parse_allocator(const char *value) {
  static const char lock_prefix[] = "malloc,mlock=";
  struct disk *disk = this_disk();
  disk->is_locked = false;
  disk->is_allocated = strncmp(value, "malloc", strlen("malloc")) == 0;
  if (strcmp(value, "sparse") == 0 || strcmp(value, "malloc") == 0)
    return 0;
  if (strncmp(value, lock_prefix, strlen(lock_prefix)) == 0) {
    const int locks = nbdkit_parse_bool(value + strlen(lock_prefix));
    disk->is_locked = locks == 1;
    return locks == -1 ? -1 : 0;
  }
  if (strcmp(value, "zstd") == 0)
    nbdkit_error("allocator=zstd: this memory plugin has only sparse and malloc; nbdkit's, if "
                 "named by its path, has it");
  else
    nbdkit_error("allocator=%s: use sparse, malloc or malloc,mlock=true", value);
  return -1;
}

static int memory_config(const char *key, const char *value) {
  if (strcmp(key, "size") == 0) {
    struct disk *disk = this_disk();
    disk->size_bytes = nbdkit_parse_size(value);
    return disk->size_bytes == -1 ? -1 : 0;
  }
  if (strcmp(key, "allocator") == 0)
    return parse_allocator(value);
  nbdkit_error("unknown parameter '%s'", key);
  return -1;
}

static int memory_config_complete(void) {
  if (this_disk()->size_bytes != -1)
    return 0;
  nbdkit_error("the size of the disk is missing: add size=<SIZE>");
  return -1;
}

static void memory_unload(void) {
  struct disk *disk = this_disk();
  memory_free_chunks(disk);
  if (disk->zeroes != NULL && disk->zeroes != MAP_FAILED)
    munmap(disk->zeroes, CHUNK_BYTES);
  pthread_mutex_destroy(&disk->arena_lock);
}

static void *memory_open(int readonly) {
  (void)readonly;
  return this_disk();
}

static int64_t memory_get_size(void *handle) {
  const struct disk *disk = handle;
  return disk->size_bytes;
}

/* All connections see the same memory. */
static int memory_can_multi_conn(void *handle) {
  (void)handle;
  return 1;
}

/* Everything is cached already. */
static int memory_can_cache(void *handle) {
  (void)handle;
  return NBDKIT_CACHE_NATIVE;
}

/* No storage is more stable than this memory, so FUA needs no work. */
static int memory_can_fua(void *handle) {
  (void)handle;
  return NBDKIT_FUA_NATIVE;
}

static int memory_can_fast_zero(void *handle) {
  (void)handle;
  return 1;
}

/* Whether the system has this much memory in total. */
static bool fits_into_memory(uint64_t size_bytes) {
  struct sysinfo info;
  return sysinfo(&info) == -1 ||
         size_bytes <= ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
}

/* Allocates the whole disk. */
static int allocate(struct disk *disk) {
  const uint64_t size = (uint64_t)disk->size_bytes;
  if (!fits_into_memory(size)) {
    nbdkit_error("allocator=malloc: a disk of %" PRIu64 " bytes does not fit into memory; with "
                 "allocator=sparse, only what is written takes memory",
                 size);
    return -1;
  }
  for (uint64_t offset = 0; offset < size; offset += CHUNK_BYTES) {
    const size_t piece = (size_t)(size - offset < CHUNK_BYTES ? size - offset : CHUNK_BYTES);
    struct chunk *chunk = memory_make_chunk(disk, offset);
    if (chunk == NULL) {
      nbdkit_error("allocator=malloc: no memory for a disk of %" PRIu64 " bytes", size);
      return -1;
    }
    if (piece == CHUNK_BYTES)
      memory_make_huge(chunk);
    memset(memory_of(chunk), 0, piece); /* makes the kernel allocate it */
    if (disk->is_locked && mlock(memory_of(chunk), piece) == -1) {
      nbdkit_error("mlock=true: cannot lock %" PRIu64 " bytes of memory: %m; raise ulimit -l",
                   size);
      return -1;
    }
  }
  return 0;
}

static int memory_get_ready(void) {
  struct disk *disk = this_disk();
  disk->zeroes =
      mmap(NULL, CHUNK_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (disk->zeroes == MAP_FAILED) {
    nbdkit_error("cannot map memory for zeroes: %m");
    return -1;
  }
  return disk->is_allocated ? allocate(disk) : 0;
}

static void memory_dump_plugin(void) {
  printf("mlock=yes\nzstd=no\n");
}

/* Lends a range of several chunks only if they are adjacent in memory, as those are that were made
 * one after the other. */
static const void *memory_lend(void *handle, uint32_t count, uint64_t offset) {
  struct disk *disk = handle;
  if (memory_debug_dir)
    memory_tell_lookup(disk, offset);
  const uint64_t in_chunk = offset % CHUNK_BYTES;
  const struct chunk *chunk = find_chunk(disk, offset);
  if (in_chunk + count <= CHUNK_BYTES)
    return (chunk != NULL ? memory_of(chunk) : disk->zeroes) + in_chunk;
  if (chunk == NULL)
    return NULL;
  const uint8_t *first = memory_of(chunk);
  const uint8_t *due = first;
  const uint64_t end = offset + count;
  for (uint64_t next = offset - in_chunk + CHUNK_BYTES; next < end; next += CHUNK_BYTES) {
    chunk = find_chunk(disk, next);
    due += CHUNK_BYTES;
    if (chunk == NULL || memory_of(chunk) != due)
      return NULL;
  }
  return first + in_chunk;
}

/* Where the server may receive the data of a write. NULL unless the chunks of [offset, offset +
 * count) are adjacent in memory, which is likely because missing ones are made in order. */
static void *memory_place(void *handle, uint32_t count, uint64_t offset) {
  struct disk *disk = handle;
  uint8_t *place = NULL;
  uint64_t next = offset;
  for (uint32_t left = count; left > 0;) {
    const uint32_t piece = piece_in_chunk(next, left);
    struct chunk *chunk = memory_make_chunk(disk, next);
    if (chunk == NULL)
      return NULL;
    uint8_t *memory = memory_of(chunk) + next % CHUNK_BYTES;
    if (place == NULL)
      place = memory;
    else if (memory != place + (next - offset))
      return NULL;
    if (piece == CHUNK_BYTES && atomic_load(&chunk->written_pages) == 0)
      memory_make_huge(chunk);
    next += piece;
    left -= piece;
  }
  return place;
}

/* Called when data was received in memory_place's range: it has changed the disk. */
static void memory_unplace(void *handle, uint32_t count, uint64_t offset) {
  struct disk *disk = handle;
  while (count > 0) {
    const uint32_t piece = piece_in_chunk(offset, count);
    memory_mark_written(find_chunk(disk, offset), offset % CHUNK_BYTES, piece);
    offset += piece;
    count -= piece;
  }
}

static int memory_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)flags;
  struct disk *disk = handle;
  uint8_t *to = buf;
  while (count > 0) {
    uint32_t piece = piece_in_chunk(offset, count);
    if (memory_debug_dir)
      memory_tell_lookup(disk, offset);
    const struct chunk *chunk = find_chunk(disk, offset);
    if (chunk != NULL)
      memcpy(to, memory_of(chunk) + offset % CHUNK_BYTES, piece);
    else
      memset(to, 0, piece);
    to += piece;
    offset += piece;
    count -= piece;
  }
  return 0;
}

static int memory_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                         uint32_t flags) {
  (void)flags;
  struct disk *disk = handle;
  const uint8_t *from = buf;
  while (count > 0) {
    uint32_t piece = piece_in_chunk(offset, count);
    struct chunk *chunk = memory_make_chunk(disk, offset);
    if (chunk == NULL) {
      nbdkit_error("no memory for the data at offset %" PRIu64, offset);
      errno = ENOSPC;
      return -1;
    }
    if (piece == CHUNK_BYTES && atomic_load(&chunk->written_pages) == 0)
      memory_make_huge(chunk);
    uint8_t *to = memory_of(chunk) + offset % CHUNK_BYTES;
    if (to != from) /* see memory_place */
      memcpy(to, from, piece);
    memory_mark_written(chunk, offset % CHUNK_BYTES, piece);
    from += piece;
    offset += piece;
    count -= piece;
  }
  return 0;
}

static int memory_flush(void *handle, uint32_t flags) {
  (void)handle, (void)flags;
  return 0;
}

static int memory_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)flags;
  struct disk *disk = handle;
  while (count > 0) {
    uint32_t piece = piece_in_chunk(offset, count);
    if (memory_debug_dir)
      memory_tell_lookup(disk, offset);
    struct chunk *chunk = find_chunk(disk, offset);
    if (memory_debug_dir && chunk != NULL && !disk->is_allocated)
      nbdkit_debug("memory: zeroing and freeing %" PRIu32 " bytes at offset %" PRIu64, piece,
                   offset);
    if (chunk != NULL && disk->is_allocated) /* the memory must stay allocated */
      memset(memory_of(chunk) + offset % CHUNK_BYTES, 0, piece);
    else if (chunk != NULL)
      memory_release(chunk, offset % CHUNK_BYTES, piece);
    offset += piece;
    count -= piece;
  }
  return 0;
}

/* Trimmed memory reads as zeroes. As with nbdkit, even a client that wants no hole gets one: a
 * later write is no more likely to fail than any write to overcommitted memory. */
static int memory_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  return memory_trim(handle, count, offset, flags);
}

static int memory_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents) {
  struct disk *disk = handle;
  const uint64_t size = (uint64_t)disk->size_bytes;
  const uint64_t end = offset + count < size ? offset + count : size;
  if (disk->is_allocated)
    return nbdkit_add_extent(extents, offset, end - offset, 0);
  while (offset < end) {
    const uint64_t begin = offset;
    if (memory_debug_dir)
      memory_tell_lookup(disk, offset);
    const bool is_data = memory_is_written(disk, offset);
    do {
      const uint64_t step = find_chunk(disk, offset) == NULL ? CHUNK_BYTES : GRAIN_BYTES;
      offset += step - offset % step;
    } while (offset < end && memory_is_written(disk, offset) == is_data);
    const uint64_t length = (offset < size ? offset : size) - begin;
    const uint32_t type = is_data ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
    if (nbdkit_add_extent(extents, begin, length, type) == -1)
      return -1;
    if ((flags & NBDKIT_FLAG_REQ_ONE) != 0)
      return 0;
  }
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "memory",
    .version = "1.0.0",
    .longname = "asyncnbd memory plugin",
    .description = "A disk in memory, lost when the server ends.",
    .load = memory_load,
    .unload = memory_unload,
    .config = memory_config,
    .config_complete = memory_config_complete,
    .config_help =
        "size=<SIZE>             (required) The size of the disk, up to 2^63-1 bytes.\n"
        "allocator=sparse        Only what is written takes memory (default).\n"
        "allocator=malloc[,mlock=true]\n"
        "                        Allocate the whole disk at the start; mlock=true: do not swap it.",
    .magic_config_key = "size",
    .dump_plugin = memory_dump_plugin,
    .get_ready = memory_get_ready,
    .open = memory_open,
    .get_size = memory_get_size,
    .can_multi_conn = memory_can_multi_conn,
    .can_cache = memory_can_cache,
    .can_fua = memory_can_fua,
    .can_fast_zero = memory_can_fast_zero,
    .pread = memory_pread,
    .pwrite = memory_pwrite,
    .flush = memory_flush,
    .trim = memory_trim,
    .zero = memory_zero,
    .extents = memory_extents,
    .lend = memory_lend,
    .place = memory_place,
    .unplace = memory_unplace,
    .errno_is_preserved = 1,
    .instance_bytes = sizeof(struct disk),
};

NBDKIT_REGISTER_PLUGIN(plugin)
