/* A disk in memory of up to 2^63-1 bytes, which takes only as much memory as was written.
 *
 * The disk is divided into chunks of 1 MiB. A chunk gets its place in the address space when it
 * is first written and keeps it until the plugin is unloaded; the kernel gives memory to the
 * pages of it that are written, and takes it back when they are trimmed. So readers need no
 * lock: what they find through the tree below stays mapped, whatever others do meanwhile.
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

#define CHUNK_BITS 20
#define CHUNK_BYTES (UINT64_C(1) << CHUNK_BITS)
#define PAGE_BYTES UINT64_C(4096) /* or a multiple of the system's page: see release_pages */
#define ARENA_CHUNKS 1024

/* A tree of three levels leads from an offset to its chunk: 15 + 14 + 14 bits. */
#define LEAF_BITS 14
#define MIDDLE_BITS 14
#define TOP_BITS 15
#define LEAF_ENTRIES (1u << LEAF_BITS)
#define MIDDLE_ENTRIES (1u << MIDDLE_BITS)
#define TOP_ENTRIES (1u << TOP_BITS)

typedef _Atomic(uint8_t *) chunk_pointer;

struct leaf {
  chunk_pointer chunks[LEAF_ENTRIES];
};

struct middle {
  _Atomic(struct leaf *) leaves[MIDDLE_ENTRIES];
};

static _Atomic(struct middle *) top[TOP_ENTRIES];

static int64_t size_bytes = -1;

/* Address space for chunks, handed out one after the other. */
struct arena {
  struct arena *previous;
  uint8_t *base;
  unsigned used_chunks;
};

static pthread_mutex_t arena_lock = PTHREAD_MUTEX_INITIALIZER;
static struct arena *newest_arena;

static struct arena *new_arena(void) {
  struct arena *arena = malloc(sizeof *arena);
  if (arena == NULL)
    return NULL;
  void *base = mmap(NULL, ARENA_CHUNKS * CHUNK_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    free(arena);
    return NULL;
  }
  /* A huge page would make one written byte cost 2 MiB. */
  madvise(base, ARENA_CHUNKS * CHUNK_BYTES, MADV_NOHUGEPAGE);
  *arena = (struct arena){.previous = newest_arena, .base = base};
  return arena;
}

/* Call with arena_lock held; NULL if memory is short. */
static uint8_t *new_chunk(void) {
  if (newest_arena == NULL || newest_arena->used_chunks == ARENA_CHUNKS) {
    struct arena *arena = new_arena();
    if (arena == NULL)
      return NULL;
    newest_arena = arena;
  }
  return newest_arena->base + newest_arena->used_chunks++ * CHUNK_BYTES;
}

/* The place of the chunk's pointer in the tree; NULL if that part of the tree does not exist. */
static chunk_pointer *find_slot(uint64_t chunk_number) {
  struct middle *middle =
      atomic_load_explicit(&top[chunk_number >> (LEAF_BITS + MIDDLE_BITS)], memory_order_acquire);
  if (middle == NULL)
    return NULL;
  struct leaf *leaf = atomic_load_explicit(
      &middle->leaves[(chunk_number >> LEAF_BITS) % MIDDLE_ENTRIES], memory_order_acquire);
  return leaf == NULL ? NULL : &leaf->chunks[chunk_number % LEAF_ENTRIES];
}

/* The same, making what is missing; call with arena_lock held. NULL if memory is short. */
static chunk_pointer *make_slot(uint64_t chunk_number) {
  _Atomic(struct middle *) *middle_slot = &top[chunk_number >> (LEAF_BITS + MIDDLE_BITS)];
  struct middle *middle = atomic_load_explicit(middle_slot, memory_order_relaxed);
  if (middle == NULL) {
    middle = calloc(1, sizeof *middle);
    if (middle == NULL)
      return NULL;
    /* Release pairs with the acquire in find_slot: a reader sees the node empty, not wild. */
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
static uint8_t *find_chunk(uint64_t offset) {
  chunk_pointer *slot = find_slot(offset >> CHUNK_BITS);
  return slot == NULL ? NULL : atomic_load_explicit(slot, memory_order_acquire);
}

/* The same, making it if need be; NULL if memory is short. */
static uint8_t *make_chunk(uint64_t offset) {
  uint8_t *chunk = find_chunk(offset);
  if (chunk != NULL)
    return chunk;
  pthread_mutex_lock(&arena_lock);
  chunk_pointer *slot = make_slot(offset >> CHUNK_BITS);
  if (slot != NULL) {
    chunk = atomic_load_explicit(slot, memory_order_relaxed); /* another thread was faster? */
    if (chunk == NULL) {
      chunk = new_chunk();
      atomic_store_explicit(slot, chunk, memory_order_release);
    }
  }
  pthread_mutex_unlock(&arena_lock);
  return chunk;
}

/* How much of [offset, offset + count) lies in one chunk. */
static uint32_t piece_in_chunk(uint64_t offset, uint32_t count) {
  uint64_t left = CHUNK_BYTES - offset % CHUNK_BYTES;
  return count < left ? count : (uint32_t)left;
}

static int memory_config(const char *key, const char *value) {
  if (strcmp(key, "size") == 0) {
    size_bytes = nbdkit_parse_size(value);
    return size_bytes == -1 ? -1 : 0;
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
  if (size_bytes != -1)
    return 0;
  nbdkit_error("you must specify size=<SIZE> on the command line");
  return -1;
}

static void free_tree(void) {
  for (size_t i = 0; i < TOP_ENTRIES; i++) {
    struct middle *middle = atomic_exchange(&top[i], NULL);
    if (middle == NULL)
      continue;
    for (size_t j = 0; j < MIDDLE_ENTRIES; j++)
      free(atomic_load(&middle->leaves[j]));
    free(middle);
  }
}

static void memory_unload(void) {
  free_tree();
  while (newest_arena != NULL) {
    struct arena *previous = newest_arena->previous;
    munmap(newest_arena->base, ARENA_CHUNKS * CHUNK_BYTES);
    free(newest_arena);
    newest_arena = previous;
  }
}

static void *memory_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t memory_get_size(void *handle) {
  (void)handle;
  return size_bytes;
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

static int memory_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)flags;
  uint8_t *to = buf;
  while (count > 0) {
    uint32_t piece = piece_in_chunk(offset, count);
    const uint8_t *chunk = find_chunk(offset);
    if (chunk != NULL)
      memcpy(to, chunk + offset % CHUNK_BYTES, piece);
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
  (void)handle, (void)flags;
  const uint8_t *from = buf;
  while (count > 0) {
    uint32_t piece = piece_in_chunk(offset, count);
    uint8_t *chunk = make_chunk(offset);
    if (chunk == NULL) {
      nbdkit_error("no memory for the data at offset %" PRIu64, offset);
      errno = ENOSPC;
      return -1;
    }
    memcpy(chunk + offset % CHUNK_BYTES, from, piece);
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

/* Zeroes part of a chunk, giving back whole pages. */
static void release_pages(uint8_t *begin, uint64_t length) {
  uint8_t *end = begin + length;
  uint8_t *first_page = (uint8_t *)(((uintptr_t)begin + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1));
  uint8_t *pages_end = (uint8_t *)((uintptr_t)end & ~(PAGE_BYTES - 1));
  /* The kernel refuses where its pages are larger than ours: then zero by hand. */
  if (first_page >= pages_end ||
      madvise(first_page, (size_t)(pages_end - first_page), MADV_DONTNEED) != 0) {
    memset(begin, 0, length);
    return;
  }
  memset(begin, 0, (size_t)(first_page - begin));
  memset(pages_end, 0, (size_t)(end - pages_end));
}

static int memory_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)flags;
  while (count > 0) {
    uint32_t piece = piece_in_chunk(offset, count);
    uint8_t *chunk = find_chunk(offset);
    if (chunk != NULL)
      release_pages(chunk + offset % CHUNK_BYTES, piece);
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

static int memory_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents) {
  (void)handle;
  const uint64_t size = (uint64_t)size_bytes;
  const uint64_t end = offset + count < size ? offset + count : size;
  while (offset < end) {
    const uint64_t chunk_end = offset - offset % CHUNK_BYTES + CHUNK_BYTES;
    const uint64_t extent_end = chunk_end < size ? chunk_end : size;
    const uint32_t type = find_chunk(offset) != NULL ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
    if (nbdkit_add_extent(extents, offset, extent_end - offset, type) == -1)
      return -1;
    if ((flags & NBDKIT_FLAG_REQ_ONE) != 0)
      return 0;
    offset = extent_end;
  }
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "memory",
    .version = "1.0.0",
    .longname = "asyncnbd memory plugin",
    .description = "A disk in memory, lost when the server ends.",
    .unload = memory_unload,
    .config = memory_config,
    .config_complete = memory_config_complete,
    .config_help = "size=<SIZE>             (required) Size of the disk, up to 2^63-1 bytes.",
    .magic_config_key = "size",
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
    .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)
