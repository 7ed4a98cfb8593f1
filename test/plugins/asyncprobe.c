/* An asynchronous disk whose offset decides how a request is answered: rightly, wrongly, twice or
 * never. Each 64 KiB region has a way of its own; what came of it is written to a log.
 *
 * size=BYTES, delay-ms=N (of replies by the thread), model=N (of thread_model), log=FILE,
 * fua=none|emulate|native (of can_fua). ASYNCMIXED leaves asynchronous callbacks away.
 */

#define _GNU_SOURCE
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum way {
  INLINE,       /* inside the callback */
  LATER,        /* by the thread */
  OWN_MEMORY,   /* by the thread, from memory that changes right after */
  LENT,         /* by the thread, from memory that is lent */
  TWICE,        /* by the thread, and once more */
  WRONG_COUNT,  /* by the thread, with a byte less */
  WRONG_KIND,   /* by the thread, a read as if it were none, and the other way round */
  FAILS,        /* -1 and nbdkit_set_error (ENOSPC) */
  REPLY_ERROR,  /* by the thread, nbdkit_set_error (ENOMEM) */
  REPLY_ERRNO,  /* by the thread, ENOSPC */
  NEVER,        /* not before the plugin is unloaded */
  REPLY_GLOBAL, /* by the thread, with errno only */
  BOTH,         /* inside the callback, and then -1 */
  NO_MEMORY,    /* by the thread, data at NULL */
  MADE_UP,      /* by the thread, after ids that nobody gave it */
  NO_ERRNO,     /* -1 and nbdkit_set_error (-1) */
};

#define REGION_BYTES (64 << 10)

enum command { READ, WRITE, FLUSH, TRIM, ZERO, CACHE };
static const char *const NAMES[] = {"pread", "pwrite", "flush", "trim", "zero", "cache"};

struct pending {
  struct pending *next;
  void *conn;
  uint64_t reqid;
  enum command command;
  void *buf;
  uint32_t count;
  uint64_t offset;
  struct timespec due;
};

static uint64_t size_bytes = 16 * REGION_BYTES;
static unsigned delay_ms = 0;
static int model = NBDKIT_THREAD_MODEL_ASYNC;
static int fua = -1;
static FILE *log_file = NULL;
static uint8_t *disk;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static struct pending *first = NULL;
static struct pending **last = &first;
static struct pending *never = NULL;
static bool ending = false;
static pthread_t thread;
static unsigned unanswered = 0; /* guarded by lock */
static unsigned most_unanswered = 0;

static void write_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void write_log(const char *format, ...) {
  if (log_file == NULL)
    return;
  va_list args;
  va_start(args, format);
  vfprintf(log_file, format, args); /* one call: lines of several threads stay whole */
  va_end(args);
}

static int probe_config(const char *key, const char *value) {
  if (strcmp(key, "size") == 0)
    size_bytes = (uint64_t)nbdkit_parse_size(value);
  else if (strcmp(key, "delay-ms") == 0)
    return nbdkit_parse_unsigned(key, value, &delay_ms);
  else if (strcmp(key, "model") == 0)
    return nbdkit_parse_int(key, value, &model);
  else if (strcmp(key, "fua") == 0)
    fua = strcmp(value, "none") == 0      ? NBDKIT_FUA_NONE
          : strcmp(value, "emulate") == 0 ? NBDKIT_FUA_EMULATE
                                          : NBDKIT_FUA_NATIVE;
  else if (strcmp(key, "log") == 0) {
    log_file = fopen(value, "a");
    if (log_file == NULL) {
      nbdkit_error("%s: %m", value);
      return -1;
    }
    setlinebuf(log_file);
  } else {
    nbdkit_error("unknown parameter %s", key);
    return -1;
  }
  return 0;
}

static int probe_thread_model(void) {
  return model;
}

/* ---- replies ------------------------------------------------------------------------------ */

static void count_answer(void) {
  pthread_mutex_lock(&lock);
  unanswered--;
  pthread_mutex_unlock(&lock);
}

static void on_release(void *opaque) {
  write_log("released %s\n", (const char *)opaque);
}

static int succeed(const struct pending *request) {
  return request->command == READ
             ? nbdkit_async_reply_read(request->conn, request->reqid, request->count, request->buf)
             : nbdkit_async_reply(request->conn, request->reqid);
}

static int reply_from_own_memory(const struct pending *request) {
  uint8_t *own = malloc(request->count);
  memcpy(own, disk + request->offset, request->count);
  int result = nbdkit_async_reply_read(request->conn, request->reqid, request->count, own);
  memset(own, 0xee, request->count);
  free(own);
  return result;
}

static void reply_to_made_up_ids(const struct pending *request) {
  int accepted = 0;
  for (uint64_t i = 0; i < 1000; i++) {
    accepted += nbdkit_async_reply(request->conn, request->reqid ^ (i + 1)) == 0;
    accepted += nbdkit_async_reply((void *)(uintptr_t)i, request->reqid) == 0;
    accepted += nbdkit_async_reply(request->conn, i * UINT64_C(0x9e3779b97f4a7c15)) == 0;
  }
  write_log("accepted %d made up\n", accepted);
}

static int reply(const struct pending *request) {
  const bool reads = request->command == READ;
  if (request->command == READ)
    memcpy(request->buf, disk + request->offset, request->count);
  else if (request->command == WRITE)
    memcpy(disk + request->offset, request->buf, request->count);
  switch ((enum way)(request->offset / REGION_BYTES)) {
  case OWN_MEMORY:
    return reads ? reply_from_own_memory(request) : succeed(request);
  case LENT:
    return reads ? nbdkit_async_reply_read_lent(request->conn, request->reqid, request->count,
                                                disk + request->offset, on_release, "it")
                 : succeed(request);
  case WRONG_COUNT:
    return reads ? nbdkit_async_reply_read(request->conn, request->reqid, request->count - 1,
                                           request->buf)
                 : succeed(request);
  case WRONG_KIND:
    return reads ? nbdkit_async_reply(request->conn, request->reqid)
                 : nbdkit_async_reply_read(request->conn, request->reqid, request->count, disk);
  case REPLY_ERROR:
    nbdkit_set_error(ENOMEM);
    return nbdkit_async_reply_error(request->conn, request->reqid);
  case REPLY_ERRNO:
    return nbdkit_async_reply_errno(request->conn, request->reqid, ENOSPC);
  case REPLY_GLOBAL:
    errno = ENOSPC;
    return nbdkit_async_reply_error(request->conn, request->reqid);
  case NO_MEMORY:
    return reads ? nbdkit_async_reply_read(request->conn, request->reqid, request->count, NULL)
                 : succeed(request);
  case MADE_UP:
    reply_to_made_up_ids(request);
    return succeed(request);
  default:
    return succeed(request);
  }
}

static void answer(const struct pending *request) {
  count_answer(); /* before the reply: the next call may come at once */
  errno = 0;
  int result = reply(request);
  write_log("%s in %d: %d %s\n", NAMES[request->command], (int)(request->offset / REGION_BYTES),
            result, result == 0 ? "0" : strerrorname_np(errno));
  if (request->offset / REGION_BYTES == TWICE) {
    errno = 0;
    result = succeed(request);
    write_log("again: %d %s\n", result, result == 0 ? "0" : strerrorname_np(errno));
  }
}

static void *reply_when_due(void *unused) {
  (void)unused;
  pthread_mutex_lock(&lock);
  for (;;) {
    if (first == NULL) {
      if (ending)
        break;
      pthread_cond_wait(&changed, &lock);
      continue;
    }
    struct pending *request = first;
    if (!ending && delay_ms > 0 &&
        pthread_cond_timedwait(&changed, &lock, &request->due) != ETIMEDOUT)
      continue;
    first = request->next;
    if (first == NULL)
      last = &first;
    pthread_mutex_unlock(&lock);
    answer(request);
    free(request);
    pthread_mutex_lock(&lock);
  }
  pthread_mutex_unlock(&lock);
  return NULL;
}

static int probe_after_fork(void) {
  disk = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&changed, &attributes);
  return pthread_create(&thread, NULL, reply_when_due, NULL) == 0 ? 0 : -1;
}

static void probe_cleanup(void) {
  pthread_mutex_lock(&lock);
  ending = true;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
  pthread_join(thread, NULL);
}

static void probe_unload(void) {
  while (never != NULL) {
    struct pending *next = never->next;
    free(never);
    never = next;
  }
  write_log("most unanswered: %u\n", most_unanswered);
  if (disk != NULL)
    munmap(disk, size_bytes);
  if (log_file != NULL)
    fclose(log_file);
}

/* ---- requests ----------------------------------------------------------------------------- */

static void queue(const struct pending *request) {
  struct pending *copy = malloc(sizeof *copy);
  *copy = *request;
  copy->next = NULL;
  clock_gettime(CLOCK_MONOTONIC, &copy->due);
  copy->due.tv_sec += delay_ms / 1000;
  copy->due.tv_nsec += delay_ms % 1000 * 1000000;
  if (copy->due.tv_nsec >= 1000000000) {
    copy->due.tv_nsec -= 1000000000;
    copy->due.tv_sec++;
  }
  pthread_mutex_lock(&lock);
  if (request->offset / REGION_BYTES == NEVER) {
    copy->next = never;
    never = copy;
  } else {
    *last = copy;
    last = &copy->next;
    pthread_cond_signal(&changed);
  }
  pthread_mutex_unlock(&lock);
}

static int start(struct pending request) {
  pthread_mutex_lock(&lock);
  if (++unanswered > most_unanswered)
    most_unanswered = unanswered;
  pthread_mutex_unlock(&lock);
  switch ((enum way)(request.offset / REGION_BYTES)) {
  case INLINE:
    answer(&request);
    return 0;
  case BOTH:
    answer(&request);
    nbdkit_set_error(ENOSPC);
    return -1;
  case FAILS:
    count_answer();
    nbdkit_set_error(ENOSPC);
    return -1;
  case NO_ERRNO:
    count_answer();
    nbdkit_set_error(-1);
    return -1;
  default:
    queue(&request);
    return 0;
  }
}

static int probe_async_pread(void *conn, uint64_t reqid, bool flush, void *handle, void *buf,
                             uint32_t count, uint64_t offset) {
  (void)flush, (void)handle;
  return start((struct pending){NULL, conn, reqid, READ, buf, count, offset, {0, 0}});
}

__attribute__((unused)) static int probe_async_pwrite(void *conn, uint64_t reqid, bool flush,
                                                      void *handle, const void *buf, uint32_t count,
                                                      uint64_t offset) {
  (void)handle;
  write_log("async pwrite count=%u fua=%d\n", count, flush);
  return start((struct pending){NULL, conn, reqid, WRITE, (void *)buf, count, offset, {0, 0}});
}

__attribute__((unused)) static int probe_async_flush(void *conn, uint64_t reqid, void *handle) {
  (void)handle;
  write_log("async flush\n");
  return start((struct pending){NULL, conn, reqid, FLUSH, NULL, 0, REGION_BYTES, {0, 0}});
}

static int probe_async_trim(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                            uint64_t offset) {
  (void)handle;
  write_log("async trim count=%u fua=%d\n", count, flush);
  return start((struct pending){NULL, conn, reqid, TRIM, NULL, count, offset, {0, 0}});
}

/* Cannot: the server must write zeroes. */
__attribute__((unused)) static int probe_async_zero(void *conn, uint64_t reqid, bool flush,
                                                    void *handle, uint32_t count, uint64_t offset,
                                                    uint32_t flags) {
  (void)handle, (void)offset;
  write_log("async zero count=%u fua=%d flags=%u\n", count, flush, flags);
  return nbdkit_async_reply_errno(conn, reqid, EOPNOTSUPP);
}

__attribute__((unused)) static int probe_async_cache(void *conn, uint64_t reqid, void *handle,
                                                     uint32_t count, uint64_t offset) {
  (void)handle;
  return start((struct pending){NULL, conn, reqid, CACHE, NULL, count, offset, {0, 0}});
}

/* Every other region is a hole. The list is filled at once, and answered in the region's way. */
__attribute__((unused)) static int probe_async_extents(void *conn, uint64_t reqid, void *handle,
                                                       uint32_t count, uint64_t offset,
                                                       uint32_t flags,
                                                       struct nbdkit_extents *extents) {
  (void)handle;
  write_log("async extents count=%u flags=%u\n", count, flags);
  for (uint64_t at = offset - offset % REGION_BYTES; at < offset + count; at += REGION_BYTES) {
    const uint32_t type = at / REGION_BYTES % 2 ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
    if (nbdkit_add_extent(extents, at, REGION_BYTES, type) == -1)
      return -1;
  }
  return start((struct pending){NULL, conn, reqid, CACHE, NULL, count, offset, {0, 0}});
}

/* ---- what is the same for the synchronous callbacks ---------------------------------------- */

/* Only for servers that have no asynchronous model. */
static int probe_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)flags;
  write_log("synchronous pread\n");
  memcpy(buf, disk + offset, count);
  return 0;
}

static int probe_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                        uint32_t flags) {
  (void)handle;
  write_log("pwrite count=%u flags=%u\n", count, flags);
  memcpy(disk + offset, buf, count);
  return 0;
}

static int probe_flush(void *handle, uint32_t flags) {
  (void)handle, (void)flags;
  write_log("flush\n");
  return 0;
}

static void *probe_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static void probe_close(void *handle) {
  (void)handle;
  pthread_mutex_lock(&lock);
  const unsigned left = unanswered;
  pthread_mutex_unlock(&lock);
  write_log("close, %u unanswered\n", left);
}

static int64_t probe_get_size(void *handle) {
  (void)handle;
  return (int64_t)size_bytes;
}

#ifndef ASYNCMIXED
static int probe_can_fua(void *handle) {
  (void)handle;
  return fua == -1 ? NBDKIT_FUA_NATIVE : fua;
}
#endif

static int probe_can_multi_conn(void *handle) {
  (void)handle;
  return 1;
}

static struct nbdkit_plugin plugin = {
#ifdef ASYNCMIXED
    .name = "asyncmixed",
#else
    .name = "asyncprobe",
#endif
    .unload = probe_unload,
    .config = probe_config,
    .open = probe_open,
    .close = probe_close,
    .get_size = probe_get_size,
#ifndef ASYNCMIXED
    .can_fua = probe_can_fua,
#endif
    .pread = probe_pread,
    .pwrite = probe_pwrite,
    .flush = probe_flush,
    .can_multi_conn = probe_can_multi_conn,
    .thread_model = probe_thread_model,
    .after_fork = probe_after_fork,
    .cleanup = probe_cleanup,
    .async_pread = probe_async_pread,
#ifdef ASYNCMIXED
    .async_trim = probe_async_trim,
#else
    .async_pwrite = probe_async_pwrite,
    .async_flush = probe_async_flush,
    .async_trim = probe_async_trim,
    .async_zero = probe_async_zero,
    .async_cache = probe_async_cache,
    .async_extents = probe_async_extents,
#endif
};

NBDKIT_REGISTER_PLUGIN(plugin)
