/* The smallest useful plugin: a disk of 16 MiB in memory. Build and run it:
 *
 *   cc -fPIC -shared -I"$(npx asyncnbd --dump-config | sed -n s/^includedir=//p)" \
 *      -o nbdkit-ramdisk-plugin.so ramdisk.c
 *   npx asyncnbd -f ./nbdkit-ramdisk-plugin.so
 */

#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

/* Requests may overlap: a client that sends overlapping writes must expect mixed data. */
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char disk[16 << 20];

static void *ramdisk_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t ramdisk_get_size(void *handle) {
  (void)handle;
  return sizeof disk;
}

static int ramdisk_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)handle, (void)flags;
  memcpy(buf, disk + offset, count);
  return 0;
}

static int ramdisk_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                          uint32_t flags) {
  (void)handle, (void)flags;
  memcpy(disk + offset, buf, count);
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "ramdisk",
    .open = ramdisk_open,
    .get_size = ramdisk_get_size,
    .pread = ramdisk_pread,
    .pwrite = ramdisk_pwrite,
};

NBDKIT_REGISTER_PLUGIN(plugin)
