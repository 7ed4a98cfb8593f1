/* A disk in memory that answers each request after a set time: a slow device to test clients with,
 * and a model for plugins with the asynchronous thread model.
 *
 * One thread serves any number of requests in flight: each waits in a queue until it is due, and
 * the thread replies to all that are due. As all reads take the same time, and so do all writes,
 * requests of one kind become due in the order in which they came.
 */

#define _GNU_SOURCE
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define NANOSECONDS UINT64_C(1000000000)

/* A request that waits. Only reads have data and count. */
struct waiting {
  struct waiting *next;
  void *conn;
  uint64_t reqid;
  uint64_t due_ns;
  const uint8_t *data;
  uint32_t count;
};

struct queue {
  uint64_t delay_ns;
  struct waiting *first;
  struct waiting **end; /* where to link the next one */
};

enum kind { READS, WRITES, KINDS };

struct disk {
  uint64_t size_bytes;
  uint8_t *memory;

  pthread_mutex_t lock;       /* guards what follows */
  pthread_cond_t earlier_due; /* a request is due before all others, or stopping is set */
  struct queue queues[KINDS];
  struct waiting *unused; /* requests to reuse */
  bool stopping;

  pthread_t thread;
  bool thread_runs;
};

static struct disk only_disk; /* under a server without instances */

static struct disk *this_disk(void) {
  return asyncnbd_instance != NULL ? asyncnbd_instance() : &only_disk;
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * NANOSECONDS + (uint64_t)now.tv_nsec;
}

/* ---- parameters --------------------------------------------------------------------------- */

/* Parses "64ms", "500us", "2s" or "2", up to an hour. */
static int parse_delay(const char *key, const char *value, uint64_t *delay_ns) {
  static const struct {
    const char *name;
    uint64_t ns;
  } units[] = {{"", NANOSECONDS}, {"s", NANOSECONDS}, {"ms", 1000000}, {"us", 1000}, {"ns", 1}};
  char *unit;
  errno = 0;
  const unsigned long long number = strtoull(value, &unit, 10);
  for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
    const bool fits = number <= 3600 * NANOSECONDS / units[i].ns;
    if (unit != value && *value != '-' && errno == 0 && fits && strcmp(unit, units[i].name) == 0) {
      *delay_ns = number * units[i].ns;
      return 0;
    }
  }
  nbdkit_error("%s=%s: use a whole number with s, ms, us or ns, up to an hour", key, value);
  return -1;
}

static void delay_load(void) {
  pthread_mutex_init(&this_disk()->lock, NULL);
}

static int delay_config(const char *key, const char *value) {
  struct disk *disk = this_disk();
  if (strcmp(key, "size") == 0) {
    const int64_t size = nbdkit_parse_size(value);
    disk->size_bytes = (uint64_t)size;
    return size == -1 ? -1 : 0;
  }
  if (strcmp(key, "read-delay") == 0)
    return parse_delay(key, value, &disk->queues[READS].delay_ns);
  if (strcmp(key, "write-delay") == 0)
    return parse_delay(key, value, &disk->queues[WRITES].delay_ns);
  if (strcmp(key, "delay") == 0) {
    if (parse_delay(key, value, &disk->queues[READS].delay_ns) == -1)
      return -1;
    disk->queues[WRITES].delay_ns = disk->queues[READS].delay_ns;
    return 0;
  }
  nbdkit_error("unknown parameter \"%s\"", key);
  return -1;
}

static int delay_config_complete(void) {
  struct disk *disk = this_disk();
  if (disk->size_bytes > 0)
    return 0;
  nbdkit_error("the size of the disk is missing: add size=<SIZE>");
  return -1;
}

static int delay_get_ready(void) {
  struct disk *disk = this_disk();
  /* Pages are only allocated when they are written. */
  disk->memory = mmap(NULL, disk->size_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (disk->memory == MAP_FAILED) {
    disk->memory = NULL;
    nbdkit_error("cannot map %" PRIu64 " bytes: %m", disk->size_bytes);
    return -1;
  }
  return 0;
}

/* ---- the thread --------------------------------------------------------------------------- */

/* Lent data is the disk's own memory, which is not released. */
static void nothing_to_release(void *opaque) {
  (void)opaque;
}

/* Takes all requests that are due, as one chain; call with the lock held. */
static struct waiting *take_due(struct disk *disk, uint64_t now) {
  struct waiting *chain = NULL;
  struct waiting **end = &chain;
  for (enum kind kind = READS; kind < KINDS; kind++) {
    struct queue *queue = &disk->queues[kind];
    while (queue->first != NULL && queue->first->due_ns <= now) {
      *end = queue->first;
      end = &queue->first->next;
      queue->first = queue->first->next;
    }
    if (queue->first == NULL)
      queue->end = &queue->first;
  }
  *end = NULL;
  return chain;
}

/* Call without the lock, because a reply calls into the server. */
static void reply_to(const struct waiting *chain) {
  nbdkit_async_batch_begin();
  for (; chain != NULL; chain = chain->next) {
    /* If a reply is refused, the client has gone, and there is nothing to do. */
    if (chain->data != NULL)
      nbdkit_async_reply_read_lent(chain->conn, chain->reqid, chain->count, chain->data,
                                   nothing_to_release, NULL);
    else
      nbdkit_async_reply(chain->conn, chain->reqid);
  }
  nbdkit_async_batch_end();
}

static void put_back(struct disk *disk, struct waiting *chain) {
  while (chain != NULL) {
    struct waiting *next = chain->next;
    chain->next = disk->unused;
    disk->unused = chain;
    chain = next;
  }
}

static void wait_until_due(struct disk *disk) {
  uint64_t due = UINT64_MAX;
  for (enum kind kind = READS; kind < KINDS; kind++)
    if (disk->queues[kind].first != NULL && disk->queues[kind].first->due_ns < due)
      due = disk->queues[kind].first->due_ns;
  if (due == UINT64_MAX) {
    pthread_cond_wait(&disk->earlier_due, &disk->lock);
    return;
  }
  const struct timespec until = {(time_t)(due / NANOSECONDS), (long)(due % NANOSECONDS)};
  pthread_cond_timedwait(&disk->earlier_due, &disk->lock, &until);
}

static void *reply_when_due(void *opaque) {
  struct disk *disk = opaque;
  pthread_mutex_lock(&disk->lock);
  while (!disk->stopping) {
    struct waiting *due = take_due(disk, now_ns());
    if (due == NULL) {
      wait_until_due(disk);
      continue;
    }
    pthread_mutex_unlock(&disk->lock);
    reply_to(due);
    pthread_mutex_lock(&disk->lock);
    put_back(disk, due);
  }
  pthread_mutex_unlock(&disk->lock);
  return NULL;
}

/* A plugin may not start threads before this: a server in the background is a forked process. */
static int delay_after_fork(void) {
  struct disk *disk = this_disk();
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&disk->earlier_due, &attributes);
  pthread_condattr_destroy(&attributes);
  for (enum kind kind = READS; kind < KINDS; kind++)
    disk->queues[kind].end = &disk->queues[kind].first;
  const int error = pthread_create(&disk->thread, NULL, reply_when_due, disk);
  if (error != 0) {
    nbdkit_error("cannot start a thread: %s", strerror(error));
    return -1;
  }
  disk->thread_runs = true;
  return 0;
}

/* Called after the last connection: no request waits any more. */
static void delay_cleanup(void) {
  struct disk *disk = this_disk();
  if (!disk->thread_runs)
    return;
  pthread_mutex_lock(&disk->lock);
  disk->stopping = true;
  pthread_cond_signal(&disk->earlier_due);
  pthread_mutex_unlock(&disk->lock);
  pthread_join(disk->thread, NULL);
}

static void delay_unload(void) {
  struct disk *disk = this_disk();
  while (disk->unused != NULL) {
    struct waiting *next = disk->unused->next;
    free(disk->unused);
    disk->unused = next;
  }
  if (disk->memory != NULL)
    munmap(disk->memory, disk->size_bytes);
}

/* ---- requests ----------------------------------------------------------------------------- */

static void *delay_open(int readonly) {
  (void)readonly;
  return this_disk();
}

static int64_t delay_get_size(void *handle) {
  struct disk *disk = handle;
  return (int64_t)disk->size_bytes;
}

/* All clients see the same memory. */
static int delay_can_multi_conn(void *handle) {
  (void)handle;
  return 1;
}

/* No storage is more stable than this memory: a write is durable when it is done. */
static int delay_can_fua(void *handle) {
  (void)handle;
  return NBDKIT_FUA_NATIVE;
}

static int reply_later(struct disk *disk, enum kind kind, void *conn, uint64_t reqid,
                       const uint8_t *data, uint32_t count) {
  struct queue *queue = &disk->queues[kind];
  pthread_mutex_lock(&disk->lock);
  struct waiting *request = disk->unused;
  if (request != NULL)
    disk->unused = request->next;
  else
    request = malloc(sizeof *request);
  if (request == NULL) {
    pthread_mutex_unlock(&disk->lock);
    nbdkit_error("no memory for another request in flight");
    nbdkit_set_error(ENOMEM);
    return -1;
  }
  const bool is_first = queue->first == NULL;
  *request = (struct waiting){NULL, conn, reqid, now_ns() + queue->delay_ns, data, count};
  *queue->end = request;
  queue->end = &request->next;
  if (is_first) /* the thread may wait for a request that is due later */
    pthread_cond_signal(&disk->earlier_due);
  pthread_mutex_unlock(&disk->lock);
  return 0;
}

static int delay_pread(void *conn, uint64_t reqid, bool flush, void *handle, void *buf,
                       uint32_t count, uint64_t offset) {
  (void)flush, (void)buf;
  struct disk *disk = handle;
  if (disk->queues[READS].delay_ns > 0)
    return reply_later(disk, READS, conn, reqid, disk->memory + offset, count);
  /* A reply inside the callback works, too; if it fails, the server knows why. */
  nbdkit_async_reply_read_lent(conn, reqid, count, disk->memory + offset, nothing_to_release, NULL);
  return 0;
}

/* The work is done; only the reply waits. */
static int reply_to_write(struct disk *disk, void *conn, uint64_t reqid) {
  if (disk->queues[WRITES].delay_ns > 0)
    return reply_later(disk, WRITES, conn, reqid, NULL, 0);
  nbdkit_async_reply(conn, reqid);
  return 0;
}

/* Copies the data at once, although buf would stay valid until the reply. */
static int delay_pwrite(void *conn, uint64_t reqid, bool flush, void *handle, const void *buf,
                        uint32_t count, uint64_t offset) {
  (void)flush;
  struct disk *disk = handle;
  memcpy(disk->memory + offset, buf, count);
  return reply_to_write(disk, conn, reqid);
}

static int delay_flush(void *conn, uint64_t reqid, void *handle) {
  struct disk *disk = handle;
  return reply_to_write(disk, conn, reqid);
}

static int delay_zero(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                      uint64_t offset, uint32_t flags) {
  (void)flush, (void)flags;
  struct disk *disk = handle;
  memset(disk->memory + offset, 0, count);
  return reply_to_write(disk, conn, reqid);
}

static int delay_trim(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                      uint64_t offset) {
  return delay_zero(conn, reqid, flush, handle, count, offset, 0);
}

static struct nbdkit_plugin plugin = {
    .name = "delay-memory",
    .version = "1.0.0",
    .longname = "asyncnbd delayed memory plugin",
    .description =
        "A disk in memory that answers any number of requests at once, each after a set time.",
    .load = delay_load,
    .unload = delay_unload,
    .config = delay_config,
    .config_complete = delay_config_complete,
    .config_help =
        "size=<SIZE>             (required) The size of the disk.\n"
        "delay=<TIME>            How long each request takes, 0 by default: 64ms, 2s, …\n"
        "read-delay=<TIME>       The same, for reads only.\n"
        "write-delay=<TIME>      The same, for all other requests.",
    .open = delay_open,
    .get_size = delay_get_size,
    .can_fua = delay_can_fua,
    .magic_config_key = "size",
    .can_multi_conn = delay_can_multi_conn,
    .get_ready = delay_get_ready,
    .after_fork = delay_after_fork,
    .cleanup = delay_cleanup,
    .async_pread = delay_pread,
    .async_pwrite = delay_pwrite,
    .async_flush = delay_flush,
    .async_trim = delay_trim,
    .async_zero = delay_zero,
    .instance_bytes = sizeof(struct disk),
};

NBDKIT_REGISTER_PLUGIN(plugin)
