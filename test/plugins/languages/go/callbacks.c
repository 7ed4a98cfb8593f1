// What the server sees of the disk in disk.go.
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "_cgo_export.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static void disk_load(void) {
  goLoad();
}

static void disk_unload(void) {
  goUnload();
}

static int disk_config(const char *key, const char *value) {
  if (goConfig((char *)key, (char *)value) == 0)
    return 0;
  nbdkit_error("no parameter %s", key);
  return -1;
}

static void *disk_open(int readonly) {
  goOpen(readonly);
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static void disk_close(void *handle) {
  (void)handle;
  goClose();
}

static int64_t disk_size(void *handle) {
  (void)handle;
  return goSize();
}

static int disk_read(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)flags;
  if (goRead(buffer, count, offset) == 0)
    return 0;
  nbdkit_error("this sector is cursed");
  return -1;
}

static int disk_write(void *handle, const void *buffer, uint32_t count, uint64_t offset,
                      uint32_t flags) {
  (void)handle, (void)flags;
  goWrite((void *)buffer, count, offset);
  return 0;
}

#define LANGUAGE "go"
#include "table.h"
