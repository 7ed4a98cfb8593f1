/* A disk in memory that takes a set time for each request, one after the other: a slow device with
 * a simple, blocking plugin. native/plugins/delay-memory.c is the same device with the
 * asynchronous thread model.
 *
 * cc -fPIC -shared -I native/include examples/slow-disk.c -o slow-disk.so asyncnbd ./slow-disk.so
 * size=64M delay-ms=64
 */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <stdlib.h>
#include <string.h>

/* Under PARALLEL requests would overlap, each on a thread of its own. */
#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

static int64_t size_bytes = 64 << 20;
static unsigned delay_ms = 64;
static uint8_t *memory;

static int slow_config(const char *key, const char *value) {
  if (strcmp(key, "delay-ms") == 0)
    return nbdkit_parse_unsigned(key, value, &delay_ms);
  if (strcmp(key, "size") == 0) {
    size_bytes = nbdkit_parse_size(value);
    return size_bytes == -1 ? -1 : 0;
  }
  nbdkit_error("unknown parameter \"%s\"", key);
  return -1;
}

static int slow_get_ready(void) {
  memory = calloc((size_t)size_bytes, 1);
  if (memory == NULL)
    nbdkit_error("no memory for the disk: %m");
  return memory == NULL ? -1 : 0;
}

static void slow_unload(void) {
  free(memory);
}

static void *slow_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t slow_get_size(void *handle) {
  (void)handle;
  return size_bytes;
}

static int slow_can_multi_conn(void *handle) {
  (void)handle;
  return 1;
}

/* Ends early, with an error, when the client leaves or the server stops. */
static int take_time(void) {
  return nbdkit_nanosleep(delay_ms / 1000, delay_ms % 1000 * 1000000);
}

static int slow_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)flags;
  memcpy(buf, memory + offset, count);
  return take_time();
}

static int slow_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                       uint32_t flags) {
  (void)handle, (void)flags;
  memcpy(memory + offset, buf, count);
  return take_time();
}

static struct nbdkit_plugin plugin = {
    .name = "slow-disk",
    .unload = slow_unload,
    .config = slow_config,
    .config_help = "size=<SIZE>             Size of the disk, 64M by default.\n"
                   "delay-ms=<N>            How long each request takes, 64 by default.",
    .open = slow_open,
    .get_size = slow_get_size,
    .errno_is_preserved = 1,
    .pread = slow_pread,
    .pwrite = slow_pwrite,
    .can_multi_conn = slow_can_multi_conn,
    .get_ready = slow_get_ready,
};

NBDKIT_REGISTER_PLUGIN(plugin)
