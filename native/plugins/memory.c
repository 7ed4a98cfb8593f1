/* A disk in memory of up to 2^63-1 bytes, which takes only as much memory as was written.
 *
 * The disk is divided into chunks of 2 MiB. A chunk gets its place in the address space when it
 * is first written and keeps it until the plugin is unloaded; the kernel gives memory to the
 * pages of it that are written, and takes it back when they are trimmed. So readers need no
 * lock: what they find through the tree below stays mapped, whatever others do meanwhile.
 *
 * A chunk all of whose pages have been written becomes one huge page, which is quicker to find
 * and to refer to; before that it would be a waste, as one written byte would cost 2 MiB.
 */

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define CHUNK_BITS 21 /* that of a huge page */
#define CHUNK_BYTES (UINT64_C(1) << CHUNK_BITS)
#define PAGE_BYTES UINT64_C(4096) /* or a multiple of the system's page: see release_pages */
#define CHUNK_PAGES (CHUNK_BYTES / PAGE_BYTES)
/* What extents tell apart: smaller ones would be very many. */
#define GRAIN_PAGES 8
#define GRAIN_BYTES (GRAIN_PAGES * PAGE_BYTES)
#define ARENA_CHUNKS 512
#define ARENA_BYTES ((ARENA_CHUNKS + 1) * CHUNK_BYTES) /* one for the alignment */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* from Linux 6.1 on; others refuse it */
#endif
/* Each may be an island of its own in the list of the process's mappings, which is limited. */
#define MAX_HUGE_CHUNKS 16384
/* After so many failures the system has none to give. */
#define MAX_HUGE_FAILURES 16

/* A tree of three levels leads from an offset to its chunk: 14 + 14 + 14 bits. */
#define LEAF_BITS 14
#define MIDDLE_BITS 14
#define TOP_BITS 14
#define LEAF_ENTRIES (1u << LEAF_BITS)
#define MIDDLE_ENTRIES (1u << MIDDLE_BITS)
#define TOP_ENTRIES (1u << TOP_BITS)

#define WORD_PAGES 64

/* Which pages were written since they were trimmed: a bit is set after the write and cleared
 * before the trim, so that one which is not set is a page of zeroes, or a write not yet replied to.
 */
struct chunk {
  _Atomic(uint8_t *) memory;
  _Atomic uint64_t written[CHUNK_PAGES / WORD_PAGES];
  atomic_uint written_pages;
  atomic_bool is_huge;
};

struct leaf {
  struct chunk chunks[LEAF_ENTRIES];
};

struct middle {
  _Atomic(struct leaf *) leaves[MIDDLE_ENTRIES];
};

/* Address space for chunks, handed out one after the other. */
struct arena {
  struct arena *previous;
  uint8_t *space; /* ARENA_BYTES */
  uint8_t *base;  /* of the first chunk in it */
  unsigned used_chunks;
};

struct disk {
  int64_t size_bytes;
  _Atomic(struct middle *) top[TOP_ENTRIES];
  pthread_mutex_t arena_lock;
  struct arena *newest_arena;
  uint8_t *zeroes; /* what was never written reads from here, CHUNK_BYTES at most */
};

static struct disk only_disk; /* under nbdkit */

static struct disk *this_disk(void) {
  return asyncnbd_instance != NULL ? asyncnbd_instance() : &only_disk;
}

/* Of all disks of the process. */
static atomic_uint huge_chunks;
static atomic_uint huge_failures; /* one after the other */

static struct arena *new_arena(struct arena *previous) {
  struct arena *arena = malloc(sizeof *arena);
  if (arena == NULL)
    return NULL;
  uint8_t *space = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (space == MAP_FAILED) {
    free(arena);
    return NULL;
  }
  madvise(space, ARENA_BYTES, MADV_NOHUGEPAGE);
  uint8_t *base = (uint8_t *)(((uintptr_t)space + CHUNK_BYTES - 1) & ~(CHUNK_BYTES - 1));
  *arena = (struct arena){.previous = previous, .space = space, .base = base};
  return arena;
}

/* Call with arena_lock held; NULL if memory is short. */
static uint8_t *new_memory(struct disk *disk) {
  struct arena *arena = disk->newest_arena;
  if (arena == NULL || arena->used_chunks == ARENA_CHUNKS) {
    arena = new_arena(arena);
    if (arena == NULL)
      return NULL;
    disk->newest_arena = arena;
  }
  return arena->base + arena->used_chunks++ * CHUNK_BYTES;
}

/* The place of a chunk in the tree; NULL if that part of the tree does not exist. */
static struct chunk *find_place(struct disk *disk, uint64_t chunk_number) {
  struct middle *middle = atomic_load_explicit(
      &disk->top[chunk_number >> (LEAF_BITS + MIDDLE_BITS)], memory_order_acquire);
  if (middle == NULL)
    return NULL;
  struct leaf *leaf = atomic_load_explicit(
      &middle->leaves[(chunk_number >> LEAF_BITS) % MIDDLE_ENTRIES], memory_order_acquire);
  return leaf == NULL ? NULL : &leaf->chunks[chunk_number % LEAF_ENTRIES];
}

/* The same, making what is missing; call with arena_lock held. NULL if memory is short. */
static struct chunk *make_place(struct disk *disk, uint64_t chunk_number) {
  _Atomic(struct middle *) *middle_slot = &disk->top[chunk_number >> (LEAF_BITS + MIDDLE_BITS)];
  struct middle *middle = atomic_load_explicit(middle_slot, memory_order_relaxed);
  if (middle == NULL) {
    middle = calloc(1, sizeof *middle);
    if (middle == NULL)
      return NULL;
    /* Release pairs with the acquire in find_place: a reader sees the node empty, not wild. */
    atomic_store_explicit(middle_slot, middle, memory_order_release);
  }
  _Atomic(struct leaf *) *leaf_slot = &middle->leaves[(chunk_number >> LEAF_BITS) % MIDDLE_ENTRIES];
  struct leaf *leaf = atomic_load_explicit(leaf_slot, memory_order_relaxed);
  if (leaf == NULL) {
    leaf = calloc(1, sizeof *leaf);
    if (leaf == NULL)
      return NULL;
    atomic_store_explicit(leaf_slot, leaf, memory_order_release);
  }
  return &leaf->chunks[chunk_number % LEAF_ENTRIES];
}

/* The chunk that holds `offset`, NULL if nothing was ever written there. */
static struct chunk *find_chunk(struct disk *disk, uint64_t offset) {
  struct chunk *chunk = find_place(disk, offset >> CHUNK_BITS);
  return chunk != NULL && atomic_load_explicit(&chunk->memory, memory_order_acquire) != NULL ? chunk
                                                                                             : NULL;
}

/* The same, making it if need be; NULL if memory is short. */
static struct chunk *make_chunk(struct disk *disk, uint64_t offset) {
  struct chunk *chunk = find_chunk(disk, offset);
  if (chunk != NULL)
    return chunk;
  pthread_mutex_lock(&disk->arena_lock);
  chunk = make_place(disk, offset >> CHUNK_BITS);
  /* Or another thread was faster. */
  if (chunk != NULL && atomic_load_explicit(&chunk->memory, memory_order_relaxed) == NULL) {
    uint8_t *memory = new_memory(disk);
    if (memory == NULL)
      chunk = NULL;
    else
      atomic_store_explicit(&chunk->memory, memory, memory_order_release);
  }
  pthread_mutex_unlock(&disk->arena_lock);
  return chunk;
}

/* Of a chunk that has been found. */
static uint8_t *memory_of(const struct chunk *chunk) {
  return atomic_load_explicit(&chunk->memory, memory_order_relaxed);
}

/* All of it has been written, or is about to be. */
static void make_huge(struct chunk *chunk) {
  if (atomic_load(&huge_failures) >= MAX_HUGE_FAILURES ||
      atomic_load(&huge_chunks) >= MAX_HUGE_CHUNKS || atomic_exchange(&chunk->is_huge, true))
    return;
  atomic_fetch_add(&huge_chunks, 1);
  uint8_t *memory = memory_of(chunk);
  if (madvise(memory, CHUNK_BYTES, MADV_HUGEPAGE) == 0 &&
      (atomic_load(&chunk->written_pages) == 0 || madvise(memory, CHUNK_BYTES, MADV_COLLAPSE) == 0))
    atomic_store(&huge_failures, 0);
  else
    atomic_fetch_add(&huge_failures, 1);
}

/* Part of it is to be trimmed: what is written there next must not bring all of it back. */
static void make_small(struct chunk *chunk) {
  if (!atomic_load(&chunk->is_huge) || !atomic_exchange(&chunk->is_huge, false))
    return;
  atomic_fetch_sub(&huge_chunks, 1);
  madvise(memory_of(chunk), CHUNK_BYTES, MADV_NOHUGEPAGE);
}

/* A mask of the pages [first, end) of the chunk, as far as they are in its word-th word. */
static uint64_t page_mask(unsigned word, unsigned first, unsigned end) {
  const unsigned word_first = word * WORD_PAGES;
  const unsigned from = first > word_first ? first - word_first : 0;
  const unsigned to = end < word_first + WORD_PAGES ? end - word_first : WORD_PAGES;
  const uint64_t below_to = to == WORD_PAGES ? UINT64_MAX : (UINT64_C(1) << to) - 1;
  return below_to & ~((UINT64_C(1) << from) - 1);
}

/* After [begin, begin + length) of it was written. */
static void mark_written(struct chunk *chunk, uint64_t begin, uint64_t length) {
  const unsigned first = (unsigned)(begin / PAGE_BYTES);
  const unsigned end = (unsigned)((begin + length + PAGE_BYTES - 1) / PAGE_BYTES);
  unsigned added = 0;
  for (unsigned word = first / WORD_PAGES; word * WORD_PAGES < end; word++) {
    const uint64_t mask = page_mask(word, first, end);
    if ((atomic_load(&chunk->written[word]) & mask) == mask)
      continue;
    const uint64_t before = atomic_fetch_or(&chunk->written[word], mask);
    added += (unsigned)__builtin_popcountll(mask & ~before);
  }
  if (added > 0 && atomic_fetch_add(&chunk->written_pages, added) + added == CHUNK_PAGES)
    make_huge(chunk);
}

/* Before its pages [first, end) are trimmed. */
static void mark_trimmed(struct chunk *chunk, unsigned first, unsigned end) {
  unsigned removed = 0;
  for (unsigned word = first / WORD_PAGES; word * WORD_PAGES < end; word++) {
    const uint64_t mask = page_mask(word, first, end);
    const uint64_t before = atomic_fetch_and(&chunk->written[word], ~mask);
    removed += (unsigned)__builtin_popcountll(before & mask);
  }
  atomic_fetch_sub(&chunk->written_pages, removed);
}

/* How much of [offset, offset + count) lies in one chunk. */
static uint32_t piece_in_chunk(uint64_t offset, uint32_t count) {
  uint64_t left = CHUNK_BYTES - offset % CHUNK_BYTES;
  return count < left ? count : (uint32_t)left;
}

static void memory_load(void) {
  struct disk *disk = this_disk();
  disk->size_bytes = -1;
  pthread_mutex_init(&disk->arena_lock, NULL);
}

static int memory_config(const char *key, const char *value) {
  if (strcmp(key, "size") == 0) {
    struct disk *disk = this_disk();
    disk->size_bytes = nbdkit_parse_size(value);
    return disk->size_bytes == -1 ? -1 : 0;
  }
  if (strcmp(key, "allocator") == 0) {
    if (strcmp(value, "sparse") == 0)
      return 0;
    nbdkit_error("allocator=%s: this memory plugin has the sparse allocator only", value);
    return -1;
  }
  nbdkit_error("unknown parameter '%s'", key);
  return -1;
}

static int memory_config_complete(void) {
  if (this_disk()->size_bytes != -1)
    return 0;
  nbdkit_error("you must specify size=<SIZE> on the command line");
  return -1;
}

static void free_leaf(struct leaf *leaf) {
  for (size_t i = 0; leaf != NULL && i < LEAF_ENTRIES; i++)
    if (atomic_load_explicit(&leaf->chunks[i].is_huge, memory_order_relaxed))
      atomic_fetch_sub(&huge_chunks, 1);
  free(leaf);
}

static void free_tree(struct disk *disk) {
  for (size_t i = 0; i < TOP_ENTRIES; i++) {
    struct middle *middle = atomic_exchange(&disk->top[i], NULL);
    if (middle == NULL)
      continue;
    for (size_t j = 0; j < MIDDLE_ENTRIES; j++)
      free_leaf(atomic_load(&middle->leaves[j]));
    free(middle);
  }
}

static void memory_unload(void) {
  struct disk *disk = this_disk();
  free_tree(disk);
  while (disk->newest_arena != NULL) {
    struct arena *arena = disk->newest_arena;
    disk->newest_arena = arena->previous;
    munmap(arena->space, ARENA_BYTES);
    free(arena);
  }
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

/* It is all cached already. */
static int memory_can_cache(void *handle) {
  (void)handle;
  return NBDKIT_CACHE_NATIVE;
}

/* There is no storage more stable than this, so nothing to do for it. */
static int memory_can_fua(void *handle) {
  (void)handle;
  return NBDKIT_FUA_NATIVE;
}

static int memory_can_fast_zero(void *handle) {
  (void)handle;
  return 1;
}

static int memory_get_ready(void) {
  struct disk *disk = this_disk();
  disk->zeroes =
      mmap(NULL, CHUNK_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (disk->zeroes != MAP_FAILED)
    return 0;
  nbdkit_error("no memory for zeroes: %m");
  return -1;
}

/* Chunks that were made one after the other lie side by side. */
static const void *memory_lend(void *handle, uint32_t count, uint64_t offset) {
  struct disk *disk = handle;
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

/* Whether the chunks of [offset, offset + count) lie side by side, in any of the two directions:
 * making them in order makes it likely. */
static void *memory_place(void *handle, uint32_t count, uint64_t offset) {
  struct disk *disk = handle;
  uint8_t *place = NULL;
  uint64_t next = offset;
  for (uint32_t left = count; left > 0;) {
    const uint32_t piece = piece_in_chunk(next, left);
    struct chunk *chunk = make_chunk(disk, next);
    if (chunk == NULL)
      return NULL;
    uint8_t *memory = memory_of(chunk) + next % CHUNK_BYTES;
    if (place == NULL)
      place = memory;
    else if (memory != place + (next - offset))
      return NULL;
    if (piece == CHUNK_BYTES && atomic_load(&chunk->written_pages) == 0)
      make_huge(chunk);
    next += piece;
    left -= piece;
  }
  return place;
}

/* What has come of it has changed the disk. */
static void memory_unplace(void *handle, uint32_t count, uint64_t offset) {
  struct disk *disk = handle;
  while (count > 0) {
    const uint32_t piece = piece_in_chunk(offset, count);
    mark_written(find_chunk(disk, offset), offset % CHUNK_BYTES, piece);
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
    struct chunk *chunk = make_chunk(disk, offset);
    if (chunk == NULL) {
      nbdkit_error("no memory for the data at offset %" PRIu64, offset);
      errno = ENOSPC;
      return -1;
    }
    if (piece == CHUNK_BYTES && atomic_load(&chunk->written_pages) == 0)
      make_huge(chunk);
    uint8_t *to = memory_of(chunk) + offset % CHUNK_BYTES;
    if (to != from) /* see memory_place */
      memcpy(to, from, piece);
    mark_written(chunk, offset % CHUNK_BYTES, piece);
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

/* Zeroes [begin, begin + length) of a chunk, giving back whole pages. */
static void release_pages(struct chunk *chunk, uint64_t begin, uint64_t length) {
  uint8_t *memory = memory_of(chunk);
  const uint64_t end = begin + length;
  const uint64_t pages_begin = (begin + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
  const uint64_t pages_end = end / PAGE_BYTES * PAGE_BYTES;
  if (pages_begin >= pages_end) {
    memset(memory + begin, 0, length);
    return;
  }
  make_small(chunk);
  mark_trimmed(chunk, (unsigned)(pages_begin / PAGE_BYTES), (unsigned)(pages_end / PAGE_BYTES));
  /* The kernel refuses where its pages are larger than ours: then zero by hand. */
  if (madvise(memory + pages_begin, pages_end - pages_begin, MADV_DONTNEED) != 0)
    memset(memory + pages_begin, 0, pages_end - pages_begin);
  memset(memory + begin, 0, pages_begin - begin);
  memset(memory + pages_end, 0, end - pages_end);
}

static int memory_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)flags;
  struct disk *disk = handle;
  while (count > 0) {
    uint32_t piece = piece_in_chunk(offset, count);
    struct chunk *chunk = find_chunk(disk, offset);
    if (chunk != NULL)
      release_pages(chunk, offset % CHUNK_BYTES, piece);
    offset += piece;
    count -= piece;
  }
  return 0;
}

/* Trimmed memory reads as zeroes. Even a client that wants no hole gets one, as from nbdkit:
 * later writes have no more to fear from it than from any overcommitted memory. */
static int memory_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  return memory_trim(handle, count, offset, flags);
}

/* Whether any page of the grain at `offset` was written. */
static bool is_written(struct disk *disk, uint64_t offset) {
  const struct chunk *chunk = find_chunk(disk, offset);
  if (chunk == NULL)
    return false;
  const unsigned page = (unsigned)(offset % CHUNK_BYTES / PAGE_BYTES);
  const uint64_t word = atomic_load(&chunk->written[page / WORD_PAGES]);
  const uint64_t grain = (UINT64_C(1) << GRAIN_PAGES) - 1;
  return (word >> (page % WORD_PAGES / GRAIN_PAGES * GRAIN_PAGES) & grain) != 0;
}

static int memory_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents) {
  struct disk *disk = handle;
  const uint64_t size = (uint64_t)disk->size_bytes;
  const uint64_t end = offset + count < size ? offset + count : size;
  while (offset < end) {
    const uint64_t begin = offset;
    const bool is_data = is_written(disk, offset);
    do {
      const uint64_t step = find_chunk(disk, offset) == NULL ? CHUNK_BYTES : GRAIN_BYTES;
      offset += step - offset % step;
    } while (offset < end && is_written(disk, offset) == is_data);
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
    .config_help = "size=<SIZE>             (required) Size of the disk, up to 2^63-1 bytes.",
    .magic_config_key = "size",
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
