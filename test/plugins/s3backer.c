/* What stands for s3backer's own plugin: its parameters, a thread of its own from after_fork on,
 * and a disk that is kept in memory and only written to its "bucket", a local file, as the plugin
 * is unloaded. */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *bucket;
static uint8_t *disk;
static int64_t size_bytes;

/* The thread, and how it is told to end. */
static pthread_t uploader;
static bool is_running;
static bool is_over;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static int s3backer_config(const char *key, const char *value) {
  if (strcmp(key, "bucket") == 0)
    return (bucket = nbdkit_realpath(value)) != NULL ? 0 : -1;
  if (strcmp(key, "s3b_size") == 0)
    return (size_bytes = nbdkit_parse_size(value)) == -1 ? -1 : 0;
  if (strncmp(key, "s3b_", 4) == 0)
    return 0;
  nbdkit_error("unknown parameter %s=%s", key, value);
  return -1;
}

static int s3backer_config_complete(void) {
  if (bucket != NULL && size_bytes > 0)
    return 0;
  nbdkit_error("a parameter is missing");
  return -1;
}

static int s3backer_get_ready(void) {
  disk = calloc(1, (size_t)size_bytes);
  return disk != NULL ? 0 : -1;
}

static void *upload(void *nothing) {
  pthread_mutex_lock(&lock);
  while (!is_over)
    pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  const int file = open(bucket, O_WRONLY | O_CLOEXEC);
  if (file == -1 || pwrite(file, disk, (size_t)size_bytes, 0) != size_bytes || close(file) == -1)
    nbdkit_error("upload: %s: %m", bucket);
  return nothing;
}

static int s3backer_after_fork(void) {
  is_running = pthread_create(&uploader, NULL, upload, NULL) == 0;
  return is_running ? 0 : -1;
}

static void s3backer_unload(void) {
  if (is_running) {
    pthread_mutex_lock(&lock);
    is_over = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(uploader, NULL);
  }
  free(disk);
  free(bucket);
}

static void *s3backer_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t s3backer_get_size(void *handle) {
  (void)handle;
  return size_bytes;
}

static int s3backer_can_multi_conn(void *handle) {
  (void)handle;
  return 1;
}

static int s3backer_pread(void *handle, void *buf, uint32_t count, uint64_t offset,
                          uint32_t flags) {
  (void)handle, (void)flags;
  memcpy(buf, disk + offset, count);
  return 0;
}

static int s3backer_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                           uint32_t flags) {
  (void)handle, (void)flags;
  memcpy(disk + offset, buf, count);
  return 0;
}

/* To it, trimming and zeroing are the same. */
static int s3backer_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)flags;
  memset(disk + offset, 0, count);
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "s3backer",
    .magic_config_key = "bucket",
    .config = s3backer_config,
    .config_complete = s3backer_config_complete,
    .get_ready = s3backer_get_ready,
    .after_fork = s3backer_after_fork,
    .unload = s3backer_unload,
    .open = s3backer_open,
    .get_size = s3backer_get_size,
    .can_multi_conn = s3backer_can_multi_conn,
    .pread = s3backer_pread,
    .pwrite = s3backer_pwrite,
    .trim = s3backer_trim,
    .zero = s3backer_trim,
};

NBDKIT_REGISTER_PLUGIN(plugin)
