/* The C plugin interface of nbdkit (API versions 1 and 2), as asyncnbd implements it.
 *
 * Names, layout and meaning are nbdkit's, so that a plugin built with either header runs under
 * either server. A plugin fills in a struct nbdkit_plugin and registers it:
 *
 *     #define NBDKIT_API_VERSION 2
 *     #include <nbdkit-plugin.h>
 *     #define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
 *     static struct nbdkit_plugin plugin = { .name = "mine", .open = ..., .get_size = ...,
 *                                            .pread = ... };
 *     NBDKIT_REGISTER_PLUGIN (plugin)
 *
 * Callbacks that return int return 0 (or a truth value) on success and -1 on error, having
 * called nbdkit_error with the reason.
 */

#ifndef NBDKIT_PLUGIN_H
#define NBDKIT_PLUGIN_H

#include "nbdkit-common.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A plugin that does not say gets version 1, whose data callbacks have no flags. */
#ifndef NBDKIT_API_VERSION
#define NBDKIT_API_VERSION 1
#elif (NBDKIT_API_VERSION - 0) < 1 || NBDKIT_API_VERSION > 2
#error "NBDKIT_API_VERSION must be 1 or 2"
#endif

struct asyncnbd_meta_contexts;

struct nbdkit_plugin {
  /* Set by NBDKIT_REGISTER_PLUGIN. The server reads no field past _struct_size bytes. */
  uint64_t _struct_size;
  int _api_version;
  int _thread_model;

  /* name is required: letters, digits and (not first) dashes. The others may be NULL. */
  const char *name;
  const char *longname;
  const char *version;
  const char *description;

  /* Called once each, right after dlopen and right before dlclose. */
  void (*load) (void);
  void (*unload) (void);

  /* config: once for each KEY=VALUE of the command line, in order; both strings live as long
   * as the process. config_complete: once after the last. config_help: one line a parameter. */
  int (*config) (const char *key, const char *value);
  int (*config_complete) (void);
  const char *config_help;

  /* open: a client chose an export (nbdkit_export_name); returns the handle given to all
   * callbacks below, NULL on error. close: its last callback. Required: open, get_size. */
  void *(*open) (int readonly);
  void (*close) (void *handle);

  /* The export's size in bytes, -1 on error. */
  int64_t (*get_size) (void *handle);

  /* Each is asked at most once a connection; when missing, the server assumes that the
   * operation is possible if its callback is there (is_rotational: no). */
  int (*can_write) (void *handle);
  int (*can_flush) (void *handle);
  int (*is_rotational) (void *handle);
  int (*can_trim) (void *handle);

#if NBDKIT_API_VERSION == 1
  int (*pread) (void *handle, void *buf, uint32_t count, uint64_t offset);
  int (*pwrite) (void *handle, const void *buf, uint32_t count, uint64_t offset);
  int (*flush) (void *handle);
  int (*trim) (void *handle, uint32_t count, uint64_t offset);
  int (*zero) (void *handle, uint32_t count, uint64_t offset, int may_trim);
#else
  int (*_pread_v1) (void *, void *, uint32_t, uint64_t);
  int (*_pwrite_v1) (void *, const void *, uint32_t, uint64_t);
  int (*_flush_v1) (void *);
  int (*_trim_v1) (void *, uint32_t, uint64_t);
  int (*_zero_v1) (void *, uint32_t, uint64_t, int);
#endif

  /* Non-zero: errno tells why a callback failed when nbdkit_set_error was not called. */
  int errno_is_preserved;

  /* Prints further KEY=VALUE lines on stdout for --dump-plugin. */
  void (*dump_plugin) (void);

  /* can_zero: is zero worth calling (else pwrite serves). can_fua: NBDKIT_FUA_*. */
  int (*can_zero) (void *handle);
  int (*can_fua) (void *handle);

#if NBDKIT_API_VERSION == 1
  int (*_unused1) (void *, void *, uint32_t, uint64_t, uint32_t);
  int (*_unused2) (void *, const void *, uint32_t, uint64_t, uint32_t);
  int (*_unused3) (void *, uint32_t);
  int (*_unused4) (void *, uint32_t, uint64_t, uint32_t);
  int (*_unused5) (void *, uint32_t, uint64_t, uint32_t);
#else
  /* pread is required. Each handles all of count bytes at offset, or fails. The range is
   * inside the export, and count is at most 64 MiB for pread and pwrite. */
  int (*pread) (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags);
  int (*pwrite) (void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags);
  int (*flush) (void *handle, uint32_t flags);
  int (*trim) (void *handle, uint32_t count, uint64_t offset, uint32_t flags);
  int (*zero) (void *handle, uint32_t count, uint64_t offset, uint32_t flags);
#endif

  /* The key of values that are given without one; see config. */
  const char *magic_config_key;

  /* May one client use several connections, a flush on one covering all? */
  int (*can_multi_conn) (void *handle);

  int (*can_extents) (void *handle);
  int (*extents) (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                  struct nbdkit_extents *extents);
  int (*can_cache) (void *handle); /* NBDKIT_CACHE_* */
  int (*cache) (void *handle, uint32_t count, uint64_t offset, uint32_t flags);

  /* The thread model wanted at run time; it can only be lower than THREAD_MODEL. */
  int (*thread_model) (void);

  /* Should clients be offered NBDKIT_FLAG_FAST_ZERO? */
  int (*can_fast_zero) (void *handle);

  /* A client has connected; nothing is known of it but its address. -1 turns it away. */
  int (*preconnect) (int readonly);

  /* get_ready: the last call before the server goes to the background; that of an asynchronous
   * plugin may block, on another thread than the calls before it. after_fork: the
   * place to start threads. cleanup: the place to stop them, after the last connection. */
  int (*get_ready) (void);
  int (*after_fork) (void);

  int (*list_exports) (int readonly, int is_tls, struct nbdkit_exports *exports);
  const char *(*default_export) (int readonly, int is_tls);
  const char *(*export_description) (void *handle);

  void (*cleanup) (void);

  /* Sizes in bytes; all 0 for "nothing to say". */
  int (*block_size) (void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum);

  /* ---- asyncnbd's own, past what nbdkit reads: but for the last one, called with THREAD_MODEL
   * ASYNC only --------------------------------------------------------------------------------
   *
   * Each starts a request and returns at once. 0: the plugin will call one of the
   * nbdkit_async_reply functions with this conn and reqid, once, from any thread, perhaps before
   * the callback returns. -1: the request has failed now, for the reason given as in other
   * callbacks, and must not be replied to.
   *
   * buf keeps its address and is the plugin's to use until that reply. flush: the client wants
   * the write on stable storage before the reply (FUA). Many calls may run at once, on any
   * handle, and any number of requests may be unanswered. A missing callback is served by its
   * synchronous namesake. docs/async-plugins.md has the whole contract. */
  int (*async_pread) (void *conn, uint64_t reqid, bool flush, void *handle, void *buf,
                      uint32_t count, uint64_t offset);
  int (*async_pwrite) (void *conn, uint64_t reqid, bool flush, void *handle, const void *buf,
                       uint32_t count, uint64_t offset);
  int (*async_flush) (void *conn, uint64_t reqid, void *handle);
  int (*async_trim) (void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                     uint64_t offset);
  /* flags: NBDKIT_FLAG_MAY_TRIM, NBDKIT_FLAG_FAST_ZERO. ENOTSUP has the server write zeroes. */
  int (*async_zero) (void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
                     uint64_t offset, uint32_t flags);
  int (*async_cache) (void *conn, uint64_t reqid, void *handle, uint32_t count, uint64_t offset);
  /* Fills extents, which stay valid until the reply, by nbdkit_add_extent. */
  int (*async_extents) (void *conn, uint64_t reqid, void *handle, uint32_t count, uint64_t offset,
                        uint32_t flags, struct nbdkit_extents *extents);

  /* Metadata contexts besides base:allocation, which clients may select for an export: calls
   * nbdkit_add_meta_context for each, always in the same order. Before open. -1: the client is
   * told of an error. */
  int (*list_meta_contexts) (int readonly, const char *exportname,
                             struct asyncnbd_meta_contexts *contexts);
  /* Like async_extents, but fills extents by nbdkit_add_status with what the context-th of them
   * (the first is 0) says of the range. */
  int (*async_block_status) (void *conn, uint64_t reqid, void *handle, uint32_t context,
                             uint32_t count, uint64_t offset, uint32_t flags,
                             struct nbdkit_extents *extents);

  /* With any thread model: where the count bytes of the disk at offset lie in memory of the
   * plugin's. Then they are sent from there, uncopied, and pread is not called. They must stay
   * readable until close; what is written to them before the reply has left may be sent or not.
   * NULL: pread is called. Returns at once; any number of calls may run, beside others. */
  const void *(*lend) (void *handle, uint32_t count, uint64_t offset);

  /* With any thread model, for plugins that have pwrite: where the count bytes that a client is
   * about to write to offset may be received, memory of the plugin's that is or will be the disk.
   * When they all have come, pwrite is called with just this address as buf. If the client leaves
   * before, unplace is called instead, when some of them may have come. NULL: pwrite is called with
   * a buffer. Both return at once; any number of calls may run, beside others. */
  void *(*place) (void *handle, uint32_t count, uint64_t offset);
  void (*unplace) (void *handle, uint32_t count, uint64_t offset);

  /* With any thread model, for plugins that have pread: a descriptor of the plugin's, open until
   * close, that has the disk at the same offsets, a regular file or a block device. Then large
   * reads may be sent from the page cache, uncopied, by splice(2), and pread is called only if that
   * fails; what is written to the file before the client has received it may be sent or not. -1:
   * pread is always called. Once for each handle, after open. */
  int (*read_fd) (void *handle);

  /* The same for plugins that have pwrite and flush, where writing to the descriptor at the same
   * offset, and flush after it if the write is to be durable, is all that pwrite does. Large writes
   * may then go by splice(2) from the socket to the page cache; pwrite is called for what of them
   * cannot. Not asked if the client may not write. */
  int (*write_fd) (void *handle);

  /* Not 0: several servers of one process may use the plugin at the same time, because it keeps
   * nothing in static variables that differs between them. The server gives each so many bytes,
   * zeroed, from before load until after unload: asyncnbd_instance. */
  uint64_t instance_bytes;

  /* With any thread model: the last client has left and the server ends. What the plugin keeps
   * open may be closed here, on a thread that may block, where cleanup is on the server's main
   * thread. Requests that the server has given up may still be unanswered: what they use must stay.
   * If it has not returned when the server has to end (--grace), it is given up: neither cleanup nor
   * unload is called. Not called if after_fork was not. */
  void (*drained) (void);
};

/* The errno that the callback which is about to fail wants its client to see. */
NBDKIT_EXTERN_DECL (void, nbdkit_set_error, (int err));

/* The export the client asked for, "" for the default one; NULL outside a connection. */
NBDKIT_EXTERN_DECL (const char *, nbdkit_export_name, (void));

/* 1 if the connection is encrypted, 0 if not, -1 outside a connection. */
NBDKIT_EXTERN_DECL (int, nbdkit_is_tls, (void));

/* ---- replies of asynchronous callbacks ----------------------------------------------------
 *
 * conn and reqid are those of the callback. Any thread, any number at once, inside the callback
 * or after it; none waits for the client. 0: the reply is on its way, and the request's buf
 * belongs to the server again. -1 with errno:
 *   EINVAL     there is no such request in flight (answered twice?), or the reply does not fit it:
 *              then its client has been sent EIO;
 *   ESHUTDOWN  the client has gone, or the server has given the request up. It is settled.
 *
 * nbdkit has none of these functions: they are weak, so that a plugin with synchronous callbacks
 * as well runs there too. */
#if defined(__GNUC__) || defined(__clang__)
#define ASYNCNBD_DECL(ret, fn, args) extern ret fn args __attribute__ ((__weak__))
#else
#define ASYNCNBD_DECL(ret, fn, args) extern ret fn args
#endif

/* Success of anything but a read. */
ASYNCNBD_DECL (int, nbdkit_async_reply, (void *conn, uint64_t reqid));

/* Success of a read: count is that of the request. buf is the request's own, filled; or memory of
 * the plugin's, which is its own again when the function returns. */
ASYNCNBD_DECL (int, nbdkit_async_reply_read,
               (void *conn, uint64_t reqid, uint32_t count, void *buf));

/* Success of a read whose data is sent from where it lies: buf must not change until release
 * (opaque) has been called, once, from any thread, also when the result is -1. release must not
 * block. */
ASYNCNBD_DECL (int, nbdkit_async_reply_read_lent,
               (void *conn, uint64_t reqid, uint32_t count, const void *buf,
                void (*release) (void *opaque), void *opaque));

/* Failure: with the error last given to nbdkit_set_error on this thread, else errno, else EIO. */
ASYNCNBD_DECL (int, nbdkit_async_reply_error, (void *conn, uint64_t reqid));

/* Failure with this errno. */
ASYNCNBD_DECL (int, nbdkit_async_reply_errno, (void *conn, uint64_t reqid, int err));

/* Around several replies of one thread: they leave together, with fewer system calls, at the
 * latest when the outermost pair ends. */
ASYNCNBD_DECL (void, nbdkit_async_batch_begin, (void));
ASYNCNBD_DECL (void, nbdkit_async_batch_end, (void));

/* 1: the asynchronous callback that runs on this thread may take as long as a copy of its request's
 * data takes: if it takes longer, others wait for it no more than some milliseconds. 0: it has to
 * return at once. Weak, as all of these: where it is NULL, the answer is 0. */
ASYNCNBD_DECL (int, nbdkit_async_may_copy, (void));

/* A metadata context: "namespace:leaf", as the protocol has it. Names of one's own begin with
 * "x-". bits: 32 or 64, how many its status has; clients without extended headers cannot select
 * one with 64. -1 with errno: EINVAL. */
ASYNCNBD_DECL (int, nbdkit_add_meta_context,
               (struct asyncnbd_meta_contexts *contexts, const char *name, unsigned bits));

/* nbdkit_add_extent for a status of up to 64 bits. */
ASYNCNBD_DECL (int, nbdkit_add_status,
               (struct nbdkit_extents *extents, uint64_t offset, uint64_t length,
                uint64_t status));

/* ---- instances -----------------------------------------------------------------------------
 *
 * The memory of the server that makes this call, for plugins with instance_bytes; from inside a
 * callback only. Weak, as the functions above: under nbdkit it is not there, nor needed. */
ASYNCNBD_DECL (void *, asyncnbd_instance, (void));

/* As nbdkit_error, but a warning: nothing has failed. Weak, too. */
ASYNCNBD_DECL (void, asyncnbd_warning, (const char *msg, ...));

/* How the server finds what nbdkit must not see: its fields may grow where ours are. */
struct asyncnbd_extension {
  uint32_t _struct_size;
  int _thread_model;
  uint64_t _callbacks_size;
  const void *_callbacks; /* from async_pread on */
};

#define NBDKIT_REGISTER_PLUGIN(plugin)                                                       \
  NBDKIT_CXX_LANG_C NBDKIT_DLL_PUBLIC                                                        \
  struct nbdkit_plugin *plugin_init (void)                                                   \
  {                                                                                          \
    (plugin)._struct_size = offsetof (struct nbdkit_plugin, async_pread);                    \
    (plugin)._api_version = NBDKIT_API_VERSION;                                              \
    (plugin)._thread_model = (THREAD_MODEL) > NBDKIT_THREAD_MODEL_PARALLEL                   \
                                 ? NBDKIT_THREAD_MODEL_PARALLEL                              \
                                 : (THREAD_MODEL);                                           \
    return &(plugin);                                                                        \
  }                                                                                          \
  NBDKIT_CXX_LANG_C NBDKIT_DLL_PUBLIC                                                        \
  const struct asyncnbd_extension *asyncnbd_plugin_init (void)                               \
  {                                                                                          \
    static struct asyncnbd_extension extension;                                              \
    extension._struct_size = sizeof extension;                                               \
    extension._thread_model = (THREAD_MODEL);                                                \
    extension._callbacks_size =                                                              \
        sizeof (plugin) - offsetof (struct nbdkit_plugin, async_pread);                      \
    extension._callbacks = &(plugin).async_pread;                                            \
    return &extension;                                                                       \
  }

#ifdef __cplusplus
}
#endif

#endif /* NBDKIT_PLUGIN_H */
