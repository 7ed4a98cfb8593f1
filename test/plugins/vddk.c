/* What stands for VMware's library behind nbdkit's plugin of this name: the parameters that
 * programs give that plugin, its debug flags, and a disk that is a local file. Extents are slow
 * there, so each question is told in a debug line. */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK_BYTES (128 << 10) /* of which an answer about extents tells a kind */

int vddk_debug_datapath = 1; /* -D vddk.datapath, -D vddk.stats */
int vddk_debug_stats = 0;

static char *path;
static char *password;
static unsigned given; /* bits of REQUIRED */
static unsigned extents_calls;

static const char *const REQUIRED[] = {"server", "user", "vm", "thumbprint", "libdir"};
static const char *const OTHERS[] = {"config", "nfchostport", "port", "snapshot", "transports"};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static int vddk_config(const char *key, const char *value) {
  if (strcmp(key, "file") == 0)
    return (path = strdup(value)) != NULL ? 0 : -1;
  if (strcmp(key, "password") == 0)
    return nbdkit_read_password(value, &password);
  for (size_t i = 0; i < COUNT(REQUIRED); i++)
    if (strcmp(key, REQUIRED[i]) == 0)
      return given |= 1U << i, 0;
  for (size_t i = 0; i < COUNT(OTHERS); i++)
    if (strcmp(key, OTHERS[i]) == 0)
      return 0;
  nbdkit_error("unknown parameter %s=%s", key, value);
  return -1;
}

static int vddk_config_complete(void) {
  if (given == (1U << COUNT(REQUIRED)) - 1 && path != NULL && password != NULL)
    return 0;
  nbdkit_error("a parameter is missing");
  return -1;
}

static void vddk_dump_plugin(void) {
  printf("vddk_default_libdir=/usr/lib/vmware-vix-disklib\n");
}

static void vddk_unload(void) {
  if (vddk_debug_stats)
    nbdkit_debug("VDDK function stats: QueryAllocatedBlocks %u", extents_calls);
  free(path);
  free(password);
}

static void *vddk_open(int readonly) {
  (void)readonly;
  int *file = malloc(sizeof *file);
  if (strcmp(password, "secret") != 0) {
    nbdkit_error("wrong password");
    free(file);
    return NULL;
  }
  *file = open(path, O_RDONLY | O_CLOEXEC);
  if (*file != -1)
    return file;
  nbdkit_error("open: %s: %m", path);
  free(file);
  return NULL;
}

static void vddk_close(void *handle) {
  close(*(int *)handle);
  free(handle);
}

static int64_t vddk_get_size(void *handle) {
  struct stat about;
  return fstat(*(int *)handle, &about) == 0 ? about.st_size : -1;
}

static int vddk_can_write(void *handle) {
  (void)handle;
  return 1; /* but nobody does, behind the cow filter */
}

static int vddk_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)flags;
  if (vddk_debug_datapath)
    nbdkit_debug("VixDiskLib_Read count=%" PRIu32 " offset=%" PRIu64, count, offset);
  return pread(*(int *)handle, buf, count, (off_t)offset) == (ssize_t)count ? 0 : -1;
}

static int vddk_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                       uint32_t flags) {
  (void)handle, (void)buf, (void)flags;
  nbdkit_error("the source was written to: count=%" PRIu32 " offset=%" PRIu64, count, offset);
  return -1;
}

static bool is_hole(int file, uint64_t offset) {
  static const char zeroes[CHUNK_BYTES];
  char *bytes = calloc(1, CHUNK_BYTES);
  const bool is_zero = pread(file, bytes, CHUNK_BYTES, (off_t)offset) >= 0 &&
                       memcmp(bytes, zeroes, CHUNK_BYTES) == 0;
  free(bytes);
  return is_zero;
}

/* The real one asks for whole chunks too, from before the offset on. */
static int vddk_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                        struct nbdkit_extents *extents) {
  __atomic_add_fetch(&extents_calls, 1, __ATOMIC_RELAXED);
  for (uint64_t at = offset / CHUNK_BYTES * CHUNK_BYTES; at < offset + count; at += CHUNK_BYTES) {
    const uint32_t type = is_hole(*(int *)handle, at) ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0;
    if (nbdkit_add_extent(extents, at, CHUNK_BYTES, type) == -1)
      return -1;
    if ((flags & NBDKIT_FLAG_REQ_ONE) != 0)
      break;
  }
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "vddk",
    .config = vddk_config,
    .config_complete = vddk_config_complete,
    .dump_plugin = vddk_dump_plugin,
    .unload = vddk_unload,
    .open = vddk_open,
    .close = vddk_close,
    .get_size = vddk_get_size,
    .can_write = vddk_can_write,
    .pread = vddk_pread,
    .pwrite = vddk_pwrite,
    .extents = vddk_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
