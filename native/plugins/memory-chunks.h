/* The chunks of a disk in memory: finds them, makes them, and knows which parts were written.
 *
 * The disk is divided into chunks of 2 MiB. A chunk gets its place in the address space when it is
 * first written, and keeps it until the plugin is unloaded. The kernel gives memory to those of its
 * pages that are written, and takes the memory back when they are trimmed. So readers need no lock:
 * what they find in the tree below stays mapped, whatever other threads do.
 *
 * When all pages of a chunk have been written, it becomes one huge page, which is quicker to map
 * and to send. Doing so earlier would be a waste: one written byte would take 2 MiB.
 */
#ifndef MEMORY_CHUNKS_H
#define MEMORY_CHUNKS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define CHUNK_BITS 21 /* the size of a huge page */
#define CHUNK_BYTES (UINT64_C(1) << CHUNK_BITS)
#define PAGE_BYTES UINT64_C(4096) /* the system's pages may be larger: see memory_release */
#define CHUNK_PAGES (CHUNK_BYTES / PAGE_BYTES)
/* The granularity of extents: with smaller grains there would be too many. */
#define GRAIN_PAGES 8
#define GRAIN_BYTES (GRAIN_PAGES * PAGE_BYTES)

/* A tree of three levels leads from an offset to its chunk: 14 + 14 + 14 bits. */
#define LEAF_BITS 14
#define MIDDLE_BITS 14
#define TOP_BITS 14
#define LEAF_ENTRIES (1u << LEAF_BITS)
#define MIDDLE_ENTRIES (1u << MIDDLE_BITS)
#define TOP_ENTRIES (1u << TOP_BITS)

#define WORD_PAGES 64

/* Which pages were written since they were trimmed. A bit is set after the write and cleared
 * before the trim, so a clear bit means a page of zeroes, or a write that is not answered yet.
 */
struct chunk {
  _Atomic(uint8_t *) memory;
  _Atomic uint64_t written[CHUNK_PAGES / WORD_PAGES];
  atomic_uint written_pages;
  atomic_bool is_huge;
};

/* Set by -D memory.dir=1: log which chunks are found, made and given back. */
extern __attribute__((visibility("default"))) int memory_debug_dir;

struct leaf {
  struct chunk chunks[LEAF_ENTRIES];
};

struct middle {
  _Atomic(struct leaf *) leaves[MIDDLE_ENTRIES];
};

struct disk {
  int64_t size_bytes;
  bool is_allocated; /* all memory is allocated before the first client: there are no holes */
  bool is_locked;    /* this memory is never swapped */
  _Atomic(struct middle *) top[TOP_ENTRIES];
  pthread_mutex_t arena_lock;
  struct arena *newest_arena;
  uint8_t *zeroes; /* CHUNK_BYTES of zeroes, lent to reads of unwritten parts */
};

/* The place of a chunk in the tree; NULL if that part of the tree does not exist. */
static inline struct chunk *find_place(struct disk *disk, uint64_t chunk_number) {
  struct middle *middle = atomic_load_explicit(
      &disk->top[chunk_number >> (LEAF_BITS + MIDDLE_BITS)], memory_order_acquire);
  if (middle == NULL)
    return NULL;
  struct leaf *leaf = atomic_load_explicit(
      &middle->leaves[(chunk_number >> LEAF_BITS) % MIDDLE_ENTRIES], memory_order_acquire);
  return leaf == NULL ? NULL : &leaf->chunks[chunk_number % LEAF_ENTRIES];
}

/* The chunk that holds `offset`, NULL if nothing was ever written there. */
static inline struct chunk *find_chunk(struct disk *disk, uint64_t offset) {
  struct chunk *chunk = find_place(disk, offset >> CHUNK_BITS);
  return chunk != NULL && atomic_load_explicit(&chunk->memory, memory_order_acquire) != NULL ? chunk
                                                                                             : NULL;
}

/* The memory of a chunk that has been found. */
static inline uint8_t *memory_of(const struct chunk *chunk) {
  return atomic_load_explicit(&chunk->memory, memory_order_relaxed);
}

/* How much of [offset, offset + count) lies in one chunk. */
static inline uint32_t piece_in_chunk(uint64_t offset, uint32_t count) {
  uint64_t left = CHUNK_BYTES - offset % CHUNK_BYTES;
  return count < left ? count : (uint32_t)left;
}

/* Called only with memory_debug_dir. */
void memory_tell_lookup(struct disk *disk, uint64_t offset);

/* The chunk that holds `offset`; makes it if there is none. NULL if memory is short. */
struct chunk *memory_make_chunk(struct disk *disk, uint64_t offset);

/* Call it when the whole chunk has been written, or is about to be. */
void memory_make_huge(struct chunk *chunk);

/* Call it after [begin, begin + length) of the chunk was written. */
void memory_mark_written(struct chunk *chunk, uint64_t begin, uint64_t length);

/* Zeroes [begin, begin + length) of a chunk, giving back whole pages. */
void memory_release(struct chunk *chunk, uint64_t begin, uint64_t length);

/* Whether any page of the grain at `offset` was written. */
bool memory_is_written(struct disk *disk, uint64_t offset);

/* Call it when nobody uses the disk any more. */
void memory_free_chunks(struct disk *disk);

#endif /* MEMORY_CHUNKS_H */
