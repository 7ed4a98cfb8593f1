/* The disk of filed.h as an asynchronous plugin. What it is called for all the same is told in a
 * line each, with whether it may copy then. */

#define _GNU_SOURCE /* memfd_create */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

#include <errno.h>
#include <inttypes.h>

#include "filed.h"

static int filed_can_fua(void *handle) {
  (void)handle;
  return NBDKIT_FUA_NATIVE;
}

static int filed_pread(void *conn, uint64_t reqid, bool flush, void *handle, void *buf,
                       uint32_t count, uint64_t offset) {
  (void)flush;
  nbdkit_error("pread count=%" PRIu32 " may_copy=%d", count, nbdkit_async_may_copy());
  if (pread(*(int *)handle, buf, count, (off_t)offset) == (ssize_t)count)
    return nbdkit_async_reply_read(conn, reqid, count, buf);
  nbdkit_set_error(errno);
  return -1;
}

static int filed_pwrite(void *conn, uint64_t reqid, bool flush, void *handle, const void *buf,
                        uint32_t count, uint64_t offset) {
  nbdkit_error("pwrite count=%" PRIu32 " flush=%d may_copy=%d", count, flush,
               nbdkit_async_may_copy());
  if (pwrite(*(int *)handle, buf, count, (off_t)offset) == (ssize_t)count)
    return nbdkit_async_reply(conn, reqid);
  nbdkit_set_error(errno);
  return -1;
}

static int filed_flush(void *conn, uint64_t reqid, void *handle) {
  (void)handle;
  nbdkit_error("flush");
  return nbdkit_async_reply(conn, reqid);
}

static struct nbdkit_plugin plugin = {
    .name = "asyncfiled",
    .config = filed_config,
    .get_ready = filed_get_ready,
    .unload = filed_unload,
    .open = filed_open,
    .get_size = filed_get_size,
    .can_fua = filed_can_fua,
    .async_pread = filed_pread,
    .async_pwrite = filed_pwrite,
    .async_flush = filed_flush,
    .read_fd = filed_fd,
    .write_fd = filed_fd,
};

NBDKIT_REGISTER_PLUGIN(plugin)
