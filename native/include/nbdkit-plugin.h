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

#ifdef __cplusplus
extern "C" {
#endif

/* A plugin that does not say gets version 1, whose data callbacks have no flags. */
#ifndef NBDKIT_API_VERSION
#define NBDKIT_API_VERSION 1
#elif (NBDKIT_API_VERSION - 0) < 1 || NBDKIT_API_VERSION > 2
#error "NBDKIT_API_VERSION must be 1 or 2"
#endif

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

  /* get_ready: the last call before the server goes to the background. after_fork: the
   * place to start threads. cleanup: the place to stop them, after the last connection. */
  int (*get_ready) (void);
  int (*after_fork) (void);

  int (*list_exports) (int readonly, int is_tls, struct nbdkit_exports *exports);
  const char *(*default_export) (int readonly, int is_tls);
  const char *(*export_description) (void *handle);

  void (*cleanup) (void);

  /* Sizes in bytes; all 0 for "nothing to say". */
  int (*block_size) (void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum);
};

/* The errno that the callback which is about to fail wants its client to see. */
NBDKIT_EXTERN_DECL (void, nbdkit_set_error, (int err));

/* The export the client asked for, "" for the default one; NULL outside a connection. */
NBDKIT_EXTERN_DECL (const char *, nbdkit_export_name, (void));

/* 1 if the connection is encrypted, 0 if not, -1 outside a connection. */
NBDKIT_EXTERN_DECL (int, nbdkit_is_tls, (void));

#define NBDKIT_REGISTER_PLUGIN(plugin)               \
  NBDKIT_CXX_LANG_C NBDKIT_DLL_PUBLIC                \
  struct nbdkit_plugin *plugin_init (void)           \
  {                                                  \
    (plugin)._struct_size = sizeof (plugin);         \
    (plugin)._api_version = NBDKIT_API_VERSION;      \
    (plugin)._thread_model = THREAD_MODEL;           \
    return &(plugin);                                \
  }

#ifdef __cplusplus
}
#endif

#endif /* NBDKIT_PLUGIN_H */
