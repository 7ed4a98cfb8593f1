/* See file-mapping.h.
 *
 * Only pages that were in the page cache after a pread are read through the mapping: the first read
 * should let the kernel plan read-ahead, and touching a hole of a tmpfs file would allocate memory
 * for it. If a page has been evicted since, the thread waits until it is read again.
 *
 * If a file was truncated, or a disk fails, reading the memory raises SIGBUS. Our handler jumps
 * back to the beginning of the read, which pread then does, and fails with the right error. The
 * last page of a truncated file can be read up to the page's end, and is zero after the file's end.
 */

#define _DEFAULT_SOURCE /* mincore */

#include "file-mapping.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

#define PAGE_BYTES UINT64_C(4096)
#define WORD_BITS 64
/* Larger reads gain nothing: the system call is a small part of their cost. */
#define MAX_READ_BYTES (16 << 10)
#define MAX_READ_PAGES (MAX_READ_BYTES / PAGE_BYTES + 1)
/* A bit for each page, in memory that is only used where files are read. */
#define MAX_FILE_BYTES (UINT64_C(16) << 40)

struct file_mapping {
  dev_t device;
  ino_t inode;
  unsigned users;
  const uint8_t *memory;
  uint64_t size_bytes;
  _Atomic uint64_t *was_cached; /* a bit for each page */
  size_t was_cached_bytes;
  struct file_mapping *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file_mapping *mappings; /* guarded by lock */
static bool handles_sigbus;           /* guarded by lock */
static unsigned instances;            /* guarded by lock */
static struct sigaction previous_action;

/* Set while a thread reads a mapping. Must not be allocated at first use, which may be in the
 * handler. */
static _Thread_local sigjmp_buf *volatile escape __attribute__((tls_model("initial-exec")));

static void on_sigbus(int signal_number, siginfo_t *info, void *context) {
  if (escape != NULL)
    siglongjmp(*escape, 1);
  if ((previous_action.sa_flags & SA_SIGINFO) != 0)
    previous_action.sa_sigaction(signal_number, info, context);
  else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN)
    previous_action.sa_handler(signal_number);
  else
    sigaction(SIGBUS, &previous_action, NULL); /* the same access raises it again */
}

/* Call with lock held. */
static bool handle_sigbus(void) {
  if (handles_sigbus)
    return true;
  struct sigaction action = {.sa_sigaction = on_sigbus,
                             .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  handles_sigbus = sigaction(SIGBUS, &action, &previous_action) == 0;
  return handles_sigbus;
}

void file_mapping_load(void) {
  pthread_mutex_lock(&lock);
  instances++;
  pthread_mutex_unlock(&lock);
}

/* After the last instance the code may be unmapped. */
void file_mapping_unload(void) {
  pthread_mutex_lock(&lock);
  struct sigaction current;
  if (--instances == 0 && handles_sigbus) {
    if (sigaction(SIGBUS, NULL, &current) == 0 && current.sa_sigaction == on_sigbus)
      sigaction(SIGBUS, &previous_action, NULL);
    handles_sigbus = false;
  }
  pthread_mutex_unlock(&lock);
}

/* To other users, mincore(2) reports all pages as cached, even holes. */
static bool may_ask_for_cached(int fd, const struct stat *status) {
  const uid_t user = geteuid();
  return user == 0 || user == status->st_uid || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

/* Whether reads through a mapping see the same data as system calls, and cost no more. */
static bool is_suitable(int fd, const struct stat *status) {
  struct statfs fs;
  if (fstatfs(fd, &fs) == -1)
    return false;
  switch ((unsigned long)fs.f_type) {
  case TMPFS_MAGIC:
    return may_ask_for_cached(fd, status);
  case EXT4_SUPER_MAGIC: /* and ext2's and ext3's */
  case XFS_SUPER_MAGIC:
  case BTRFS_SUPER_MAGIC:
    return true;
  default:
    return false;
  }
}

static bool map(struct file_mapping *mapping, int fd, int advice) {
  /* Under mlockall(2), readable memory would be filled at once. */
  void *memory = mmap(NULL, mapping->size_bytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (memory == MAP_FAILED)
    return false;
  const uint64_t pages = (mapping->size_bytes + PAGE_BYTES - 1) / PAGE_BYTES;
  mapping->was_cached_bytes = (pages + WORD_BITS - 1) / WORD_BITS * sizeof *mapping->was_cached;
  void *was_cached = mmap(NULL, mapping->was_cached_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (was_cached == MAP_FAILED || munlock(memory, mapping->size_bytes) == -1 ||
      mprotect(memory, mapping->size_bytes, PROT_READ) == -1) {
    munmap(memory, mapping->size_bytes);
    if (was_cached != MAP_FAILED)
      munmap(was_cached, mapping->was_cached_bytes);
    return false;
  }
  if (advice != POSIX_FADV_NORMAL)
    madvise(memory, mapping->size_bytes,
            advice == POSIX_FADV_RANDOM ? MADV_RANDOM : MADV_SEQUENTIAL);
  mapping->memory = memory;
  mapping->was_cached = was_cached;
  return true;
}

/* Call with lock held. */
static struct file_mapping *make(const struct stat *status, int fd, int advice) {
  if (status->st_size <= 0 || (uint64_t)status->st_size > MAX_FILE_BYTES || !handle_sigbus())
    return NULL;
  struct file_mapping *mapping = calloc(1, sizeof *mapping);
  if (mapping == NULL)
    return NULL;
  mapping->device = status->st_dev;
  mapping->inode = status->st_ino;
  mapping->size_bytes = (uint64_t)status->st_size;
  if (!map(mapping, fd, advice)) {
    free(mapping);
    return NULL;
  }
  mapping->next = mappings;
  mappings = mapping;
  return mapping;
}

struct file_mapping *file_mapping_get(int fd, int advice) {
  struct stat status;
  if (fstat(fd, &status) == -1 || !S_ISREG(status.st_mode) || !is_suitable(fd, &status))
    return NULL;
  pthread_mutex_lock(&lock);
  struct file_mapping *mapping = mappings;
  while (mapping != NULL && (mapping->device != status.st_dev || mapping->inode != status.st_ino ||
                             mapping->size_bytes != (uint64_t)status.st_size))
    mapping = mapping->next;
  if (mapping == NULL)
    mapping = make(&status, fd, advice);
  if (mapping != NULL)
    mapping->users++;
  pthread_mutex_unlock(&lock);
  return mapping;
}

void file_mapping_release(struct file_mapping *mapping) {
  if (mapping == NULL)
    return;
  pthread_mutex_lock(&lock);
  const bool is_last = --mapping->users == 0;
  if (is_last) {
    struct file_mapping **link = &mappings;
    while (*link != mapping)
      link = &(*link)->next;
    *link = mapping->next;
  }
  pthread_mutex_unlock(&lock);
  if (!is_last)
    return;
  munmap((void *)mapping->memory, mapping->size_bytes);
  munmap(mapping->was_cached, mapping->was_cached_bytes);
  free(mapping);
}

static uint64_t bit_of(uint64_t page) {
  return UINT64_C(1) << (page % WORD_BITS);
}

/* Whether all pages of [offset, offset + count), which is not empty and inside the file, were
 * cached. */
static bool were_all_cached(const struct file_mapping *mapping, uint32_t count, uint64_t offset) {
  const uint64_t last = (offset + count - 1) / PAGE_BYTES;
  for (uint64_t page = offset / PAGE_BYTES; page <= last; page++) {
    const _Atomic uint64_t *word = &mapping->was_cached[page / WORD_BITS];
    if ((atomic_load_explicit(word, memory_order_relaxed) & bit_of(page)) == 0)
      return false;
  }
  return true;
}

static bool is_in_file(const struct file_mapping *mapping, uint32_t count, uint64_t offset) {
  return count > 0 && offset < mapping->size_bytes && count <= mapping->size_bytes - offset;
}

/* Whether the data, whose last byte is `last`, still lies inside the file. Asks the system only if
 * it could be zeroes past the file's end. */
static bool is_still_in_file(int fd, uint8_t last, uint64_t end) {
  return last != 0 || lseek(fd, 0, SEEK_END) >= (off_t)end;
}

bool file_mapping_read(const struct file_mapping *mapping, int fd, void *to, uint32_t count,
                       uint64_t offset) {
  if (mapping == NULL || count > MAX_READ_BYTES || !is_in_file(mapping, count, offset) ||
      !were_all_cached(mapping, count, offset))
    return false;
  sigjmp_buf here;
  if (sigsetjmp(here, 0) != 0) {
    escape = NULL;
    return false;
  }
  escape = &here;
  atomic_signal_fence(memory_order_seq_cst); /* keeps the copy between the two assignments */
  memcpy(to, mapping->memory + offset, count);
  atomic_signal_fence(memory_order_seq_cst);
  escape = NULL;
  return is_still_in_file(fd, ((const uint8_t *)to)[count - 1], offset + count);
}

void file_mapping_note_read(struct file_mapping *mapping, uint32_t count, uint64_t offset) {
  if (mapping == NULL || count > MAX_READ_BYTES || !is_in_file(mapping, count, offset) ||
      were_all_cached(mapping, count, offset))
    return;
  const uint64_t first = offset / PAGE_BYTES;
  const uint64_t end = (offset + count + PAGE_BYTES - 1) / PAGE_BYTES;
  unsigned char is_cached[MAX_READ_PAGES];
  if (mincore((void *)(mapping->memory + first * PAGE_BYTES), (end - first) * PAGE_BYTES,
              is_cached) == -1)
    return; /* also if the system's pages are larger than ours: then pread does everything */
  for (uint64_t page = first; page < end; page++)
    if ((is_cached[page - first] & 1) != 0)
      atomic_fetch_or_explicit(&mapping->was_cached[page / WORD_BITS], bit_of(page),
                               memory_order_relaxed);
}

void file_mapping_note_hole(struct file_mapping *mapping, uint32_t count, uint64_t offset) {
  if (mapping == NULL || !is_in_file(mapping, count, offset))
    return;
  const uint64_t last = (offset + count - 1) / PAGE_BYTES;
  for (uint64_t page = offset / PAGE_BYTES; page <= last;) {
    _Atomic uint64_t *word = &mapping->was_cached[page / WORD_BITS];
    const uint64_t word_end = (page / WORD_BITS + 1) * WORD_BITS;
    if (atomic_load_explicit(word, memory_order_relaxed) == 0) {
      page = word_end;
      continue;
    }
    for (; page <= last && page < word_end; page++)
      atomic_fetch_and_explicit(word, ~bit_of(page), memory_order_relaxed);
  }
}
