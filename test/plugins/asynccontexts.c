/* An asynchronous plugin with metadata contexts of its own: one of 32 bits, one of 64, and one
 * whose question always fails. The export "plain" has only the second and the third. */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

#include <errno.h>
#include <string.h>

#define SIZE (1 << 20)

enum { PLAIN_OWNER, PLAIN_BROKEN };
enum { DIRTY, OWNER, BROKEN };

static int handle_plain, handle_other;

static void *contexts_open(int readonly) {
  (void)readonly;
  return strcmp(nbdkit_export_name(), "plain") == 0 ? &handle_plain : &handle_other;
}

static int64_t contexts_get_size(void *handle) {
  (void)handle;
  return SIZE;
}

static int contexts_async_pread(void *conn, uint64_t reqid, bool flush, void *handle, void *buf,
                                uint32_t count, uint64_t offset) {
  (void)flush, (void)handle, (void)offset;
  memset(buf, 1, count);
  return nbdkit_async_reply_read(conn, reqid, count, buf);
}

static int contexts_list(int readonly, const char *exportname,
                         struct asyncnbd_meta_contexts *contexts) {
  (void)readonly;
  if (strcmp(exportname, "plain") != 0 &&
      nbdkit_add_meta_context(contexts, "x-test:dirty", 32) == -1)
    return -1;
  if (nbdkit_add_meta_context(contexts, "base:wrong", 32) != -1 ||
      nbdkit_add_meta_context(contexts, "nocolon", 32) != -1 ||
      nbdkit_add_meta_context(contexts, "x-test:odd", 33) != -1)
    return -1;
  if (nbdkit_add_meta_context(contexts, "x-test:owner", 64) == -1)
    return -1;
  return nbdkit_add_meta_context(contexts, "x-test:broken", 32);
}

static int add_halves(struct nbdkit_extents *extents, uint64_t first, uint64_t second) {
  if (nbdkit_add_status(extents, 0, SIZE / 2, first) == -1)
    return -1;
  return nbdkit_add_status(extents, SIZE / 2, SIZE / 2, second);
}

static int contexts_async_block_status(void *conn, uint64_t reqid, void *handle, uint32_t context,
                                       uint32_t count, uint64_t offset, uint32_t flags,
                                       struct nbdkit_extents *extents) {
  (void)count, (void)offset, (void)flags;
  if (handle == &handle_plain)
    context += OWNER - PLAIN_OWNER;
  switch (context) {
  case DIRTY:
    if (add_halves(extents, 1, 0) == -1)
      return -1;
    break;
  case OWNER:
    if (add_halves(extents, 7, (UINT64_C(1) << 63) + 5) == -1)
      return -1;
    break;
  default:
    nbdkit_error("not today");
    errno = EIO;
    return -1;
  }
  return nbdkit_async_reply(conn, reqid);
}

static struct nbdkit_plugin plugin = {
    .name = "asynccontexts",
    .open = contexts_open,
    .get_size = contexts_get_size,
    .async_pread = contexts_async_pread,
    .list_meta_contexts = contexts_list,
    .async_block_status = contexts_async_block_status,
};

NBDKIT_REGISTER_PLUGIN(plugin)
