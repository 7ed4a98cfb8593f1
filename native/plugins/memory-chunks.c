/* See memory-chunks.h. */
#include "memory-chunks.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define ARENA_CHUNKS 512
#define ARENA_BYTES ((ARENA_CHUNKS + 1) * CHUNK_BYTES) /* one more for the alignment */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* since Linux 6.1; older kernels refuse it */
#endif
/* Each huge page may take an entry in the process's list of mappings, whose length is limited. */
#define MAX_HUGE_CHUNKS 16384
/* After this many failures in a row, huge pages are not tried any more. */
#define MAX_HUGE_FAILURES 16

/* Address space for chunks, which get their places one after the other. */
struct arena {
  struct arena *previous;
  uint8_t *space; /* ARENA_BYTES */
  uint8_t *base;  /* of the first chunk in it */
  unsigned used_chunks;
};

int memory_debug_dir = 0;

/* For all disks of the process. */
static atomic_uint huge_chunks;
static atomic_uint huge_failures; /* in a row */

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

/* Like find_place, but makes missing nodes; call with arena_lock held. NULL if memory is short. */
static struct chunk *make_place(struct disk *disk, uint64_t chunk_number) {
  _Atomic(struct middle *) *middle_slot = &disk->top[chunk_number >> (LEAF_BITS + MIDDLE_BITS)];
  struct middle *middle = atomic_load_explicit(middle_slot, memory_order_relaxed);
  if (middle == NULL) {
    middle = calloc(1, sizeof *middle);
    if (middle == NULL)
      return NULL;
    /* Release pairs with the acquire in find_place: a reader sees an empty node, not garbage. */
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

void memory_tell_lookup(struct disk *disk, uint64_t offset) {
  if (find_chunk(disk, offset) == NULL)
    nbdkit_debug("memory: lookup: no chunk at offset %" PRIu64, offset);
  else
    nbdkit_debug("memory: lookup: chunk found: offset %" PRIu64, offset - offset % CHUNK_BYTES);
}

struct chunk *memory_make_chunk(struct disk *disk, uint64_t offset) {
  if (memory_debug_dir)
    memory_tell_lookup(disk, offset);
  struct chunk *chunk = find_chunk(disk, offset);
  if (chunk != NULL)
    return chunk;
  pthread_mutex_lock(&disk->arena_lock);
  chunk = make_place(disk, offset >> CHUNK_BITS);
  /* Unless another thread was faster. */
  if (chunk != NULL && atomic_load_explicit(&chunk->memory, memory_order_relaxed) == NULL) {
    uint8_t *memory = new_memory(disk);
    if (memory == NULL)
      chunk = NULL;
    else
      atomic_store_explicit(&chunk->memory, memory, memory_order_release);
  }
  pthread_mutex_unlock(&disk->arena_lock);
  if (memory_debug_dir && chunk != NULL)
    nbdkit_debug("memory: inserted new chunk for offset %" PRIu64, offset - offset % CHUNK_BYTES);
  return chunk;
}

void memory_make_huge(struct chunk *chunk) {
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

/* Called before a part is trimmed, so that a later write there does not allocate a huge page. */
static void make_small(struct chunk *chunk) {
  if (!atomic_load(&chunk->is_huge) || !atomic_exchange(&chunk->is_huge, false))
    return;
  atomic_fetch_sub(&huge_chunks, 1);
  madvise(memory_of(chunk), CHUNK_BYTES, MADV_NOHUGEPAGE);
}

/* A mask of the chunk's pages [first, end) in its word number `word`. */
static uint64_t page_mask(unsigned word, unsigned first, unsigned end) {
  const unsigned word_first = word * WORD_PAGES;
  const unsigned from = first > word_first ? first - word_first : 0;
  const unsigned to = end < word_first + WORD_PAGES ? end - word_first : WORD_PAGES;
  const uint64_t below_to = to == WORD_PAGES ? UINT64_MAX : (UINT64_C(1) << to) - 1;
  return below_to & ~((UINT64_C(1) << from) - 1);
}

void memory_mark_written(struct chunk *chunk, uint64_t begin, uint64_t length) {
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
    memory_make_huge(chunk);
}

/* Called before the chunk's pages [first, end) are trimmed. */
static void mark_trimmed(struct chunk *chunk, unsigned first, unsigned end) {
  unsigned removed = 0;
  for (unsigned word = first / WORD_PAGES; word * WORD_PAGES < end; word++) {
    const uint64_t mask = page_mask(word, first, end);
    const uint64_t before = atomic_fetch_and(&chunk->written[word], ~mask);
    removed += (unsigned)__builtin_popcountll(before & mask);
  }
  atomic_fetch_sub(&chunk->written_pages, removed);
}

void memory_release(struct chunk *chunk, uint64_t begin, uint64_t length) {
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
  /* The kernel refuses if its pages are larger than ours: then zero by hand. */
  if (madvise(memory + pages_begin, pages_end - pages_begin, MADV_DONTNEED) != 0)
    memset(memory + pages_begin, 0, pages_end - pages_begin);
  memset(memory + begin, 0, pages_begin - begin);
  memset(memory + pages_end, 0, end - pages_end);
}

bool memory_is_written(struct disk *disk, uint64_t offset) {
  const struct chunk *chunk = find_chunk(disk, offset);
  if (chunk == NULL)
    return false;
  const unsigned page = (unsigned)(offset % CHUNK_BYTES / PAGE_BYTES);
  const uint64_t word = atomic_load(&chunk->written[page / WORD_PAGES]);
  const uint64_t grain = (UINT64_C(1) << GRAIN_PAGES) - 1;
  return (word >> (page % WORD_PAGES / GRAIN_PAGES * GRAIN_PAGES) & grain) != 0;
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

void memory_free_chunks(struct disk *disk) {
  free_tree(disk);
  while (disk->newest_arena != NULL) {
    struct arena *arena = disk->newest_arena;
    disk->newest_arena = arena->previous;
    munmap(arena->space, ARENA_BYTES);
    free(arena);
  }
}
