/* The C filter interface of nbdkit 1.30 to 1.34, as asyncnbd implements it.
 *
 * A filter stands in front of a plugin, or of another filter, and sees what clients ask first. It
 * fills in a struct nbdkit_filter and registers it:
 *
 *     #include <nbdkit-filter.h>
 *     static struct nbdkit_filter filter = { .name = "mine", .pread = ... };
 *     NBDKIT_REGISTER_FILTER (filter)
 *
 * Compiled as a shared object it is given to the server as --filter=./mine.so. A callback that is
 * missing passes everything on. Those that are there get `next`, which is what stands behind the
 * filter for the same client: next->pread (next, ...) and so on, or none of it.
 *
 * Callbacks that return int return 0 (or a truth value) on success and -1 on error, having called
 * nbdkit_error with the reason; those of requests set *err to an errno as well. The layout is that
 * of nbdkit 1.32: servers load only filters of versions whose layout they know.
 */

#ifndef NBDKIT_FILTER_H
#define NBDKIT_FILTER_H

#include <stdlib.h>

#include "nbdkit-common.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NBDKIT_FILTER_API_VERSION 6

/* Results of can_zero. */
#define NBDKIT_ZERO_NONE 0    /* clients are not offered zeroing */
#define NBDKIT_ZERO_EMULATE 1 /* the server calls pwrite; zero is never called */
#define NBDKIT_ZERO_NATIVE 2  /* zero is called */

/* What is behind the filter, outside a client; the open filter for one client; and what is open
 * behind it. */
typedef struct nbdkit_backend nbdkit_backend;
typedef struct nbdkit_context nbdkit_context;
typedef struct nbdkit_next_ops nbdkit_next;

typedef int nbdkit_next_config (nbdkit_backend *nxdata, const char *key, const char *value);
typedef int nbdkit_next_config_complete (nbdkit_backend *nxdata);
typedef int nbdkit_next_preconnect (nbdkit_backend *nxdata, int readonly);
typedef int nbdkit_next_list_exports (nbdkit_backend *nxdata, int readonly,
                                      struct nbdkit_exports *exports);
typedef const char *nbdkit_next_default_export (nbdkit_backend *nxdata, int readonly);
typedef int nbdkit_next_open (nbdkit_context *context, int readonly, const char *exportname);

/* May be called by any thread until close has returned, also by one of the filter's own. Facts
 * are asked once and remembered; requests must lie inside get_size, and be of a kind that the
 * facts allow: others fail with EINVAL. */
struct nbdkit_next_ops {
  /* Only of what nbdkit_next_context_open has opened. */
  int (*prepare) (nbdkit_next *next);
  int (*finalize) (nbdkit_next *next);

  int64_t (*get_size) (nbdkit_next *next);
  const char *(*export_description) (nbdkit_next *next);
  int (*block_size) (nbdkit_next *next, uint32_t *minimum, uint32_t *preferred,
                     uint32_t *maximum);

  int (*can_write) (nbdkit_next *next);
  int (*can_flush) (nbdkit_next *next);
  int (*is_rotational) (nbdkit_next *next);
  int (*can_trim) (nbdkit_next *next);
  int (*can_zero) (nbdkit_next *next); /* NBDKIT_ZERO_* */
  int (*can_fast_zero) (nbdkit_next *next);
  int (*can_extents) (nbdkit_next *next);
  int (*can_fua) (nbdkit_next *next); /* NBDKIT_FUA_* */
  int (*can_multi_conn) (nbdkit_next *next);
  int (*can_cache) (nbdkit_next *next); /* NBDKIT_CACHE_* */

  /* Each returns when it is done, and has then let go of buf. */
  int (*pread) (nbdkit_next *next, void *buf, uint32_t count, uint64_t offset, uint32_t flags,
                int *err);
  int (*pwrite) (nbdkit_next *next, const void *buf, uint32_t count, uint64_t offset,
                 uint32_t flags, int *err);
  int (*flush) (nbdkit_next *next, uint32_t flags, int *err);
  int (*trim) (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int (*zero) (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int (*extents) (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags,
                  struct nbdkit_extents *extents, int *err);
  int (*cache) (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags, int *err);
};

/* ---- lists of extents ------------------------------------------------------------------- */

struct nbdkit_extent {
  uint64_t offset;
  uint64_t length;
  uint32_t type; /* NBDKIT_EXTENT_* */
};

/* For extents from start on, up to end. NULL on error. Free it. */
NBDKIT_EXTERN_DECL (struct nbdkit_extents *, nbdkit_extents_new, (uint64_t start, uint64_t end));
NBDKIT_EXTERN_DECL (void, nbdkit_extents_free, (struct nbdkit_extents *));
NBDKIT_EXTERN_DECL (size_t, nbdkit_extents_count, (const struct nbdkit_extents *));
NBDKIT_EXTERN_DECL (struct nbdkit_extent, nbdkit_get_extent,
                    (const struct nbdkit_extents *, size_t));

/* The extents of all of a range, in as many calls as it takes. NULL on error. Free it. */
NBDKIT_EXTERN_DECL (struct nbdkit_extents *, nbdkit_extents_full,
                    (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags,
                     int *err));

/* As next->extents, but each begins and ends at a multiple of align, a power of two, as count and
 * offset do; one that is mixed has the flags that hold for all of it. */
NBDKIT_EXTERN_DECL (int, nbdkit_extents_aligned,
                    (nbdkit_next *next, uint32_t count, uint64_t offset, uint32_t flags,
                     uint32_t align, struct nbdkit_extents *extents, int *err));

/* ---- lists of exports ------------------------------------------------------------------- */

struct nbdkit_export {
  char *name;
  char *description; /* or NULL */
};

NBDKIT_EXTERN_DECL (struct nbdkit_exports *, nbdkit_exports_new, (void));
NBDKIT_EXTERN_DECL (void, nbdkit_exports_free, (struct nbdkit_exports *));
NBDKIT_EXTERN_DECL (size_t, nbdkit_exports_count, (const struct nbdkit_exports *));
NBDKIT_EXTERN_DECL (struct nbdkit_export, nbdkit_get_export,
                    (const struct nbdkit_exports *, size_t));

/* ---- opening what is behind by hand ------------------------------------------------------ */

NBDKIT_EXTERN_DECL (nbdkit_backend *, nbdkit_context_get_backend, (nbdkit_context *context));

/* Opens it once more: for the client of the call, or with shared != 0 for none. NULL on error. It
 * is to be prepared before, and finalized after its use, and closed. */
NBDKIT_EXTERN_DECL (nbdkit_next *, nbdkit_next_context_open,
                    (nbdkit_backend *backend, int readonly, const char *exportname, int shared));
NBDKIT_EXTERN_DECL (void, nbdkit_next_context_close, (nbdkit_next *next));

/* Makes it the `next` of the filter's later callbacks, or NULL; returns the one before. */
NBDKIT_EXTERN_DECL (nbdkit_next *, nbdkit_context_set_next,
                    (nbdkit_context *context, nbdkit_next *next));

/* ---- the filter --------------------------------------------------------------------------- */

struct nbdkit_filter {
  /* Set by NBDKIT_REGISTER_FILTER. */
  int _api_version;
  const char *_version;

  /* name is required: letters, digits and (not first) dashes. */
  const char *name;
  const char *longname;
  const char *description;

  void (*load) (void);
  void (*unload) (void);

  /* For each parameter; one that is not the filter's goes to next (nxdata, key, value).
   * config_complete calls next (nxdata) too. */
  int (*config) (nbdkit_next_config *next, nbdkit_backend *nxdata, const char *key,
                 const char *value);
  int (*config_complete) (nbdkit_next_config_complete *next, nbdkit_backend *nxdata);
  const char *config_help;

  /* The most that it stands, NBDKIT_THREAD_MODEL_*; get_ready gets the least of all that there
   * are. after_fork is where threads may be started. */
  int (*thread_model) (void);
  int (*get_ready) (int thread_model);
  int (*after_fork) (nbdkit_backend *backend);
  void (*cleanup) (nbdkit_backend *backend);

  int (*preconnect) (nbdkit_next_preconnect *next, nbdkit_backend *nxdata, int readonly);
  int (*list_exports) (nbdkit_next_list_exports *next, nbdkit_backend *nxdata, int readonly,
                       int is_tls, struct nbdkit_exports *exports);
  const char *(*default_export) (nbdkit_next_default_export *next, nbdkit_backend *nxdata,
                                 int readonly, int is_tls);

  /* open calls next (context, readonly, exportname), with what it wants of both, and returns the
   * handle given to all callbacks below, NULL on error. */
  void *(*open) (nbdkit_next_open *next, nbdkit_context *context, int readonly,
                 const char *exportname, int is_tls);
  void (*close) (void *handle);

  /* After the last open and before the first close of all filters of a client; what is behind can
   * be used in both. */
  int (*prepare) (nbdkit_next *next, void *handle, int readonly);
  int (*finalize) (nbdkit_next *next, void *handle);

  int64_t (*get_size) (nbdkit_next *next, void *handle);
  const char *(*export_description) (nbdkit_next *next, void *handle);
  int (*block_size) (nbdkit_next *next, void *handle, uint32_t *minimum, uint32_t *preferred,
                     uint32_t *maximum);

  int (*can_write) (nbdkit_next *next, void *handle);
  int (*can_flush) (nbdkit_next *next, void *handle);
  int (*is_rotational) (nbdkit_next *next, void *handle);
  int (*can_trim) (nbdkit_next *next, void *handle);
  int (*can_zero) (nbdkit_next *next, void *handle);
  int (*can_fast_zero) (nbdkit_next *next, void *handle);
  int (*can_extents) (nbdkit_next *next, void *handle);
  int (*can_fua) (nbdkit_next *next, void *handle);
  int (*can_multi_conn) (nbdkit_next *next, void *handle);
  int (*can_cache) (nbdkit_next *next, void *handle);

  int (*pread) (nbdkit_next *next, void *handle, void *buf, uint32_t count, uint64_t offset,
                uint32_t flags, int *err);
  int (*pwrite) (nbdkit_next *next, void *handle, const void *buf, uint32_t count,
                 uint64_t offset, uint32_t flags, int *err);
  int (*flush) (nbdkit_next *next, void *handle, uint32_t flags, int *err);
  int (*trim) (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset, uint32_t flags,
               int *err);
  int (*zero) (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset, uint32_t flags,
               int *err);
  int (*extents) (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                  uint32_t flags, struct nbdkit_extents *extents, int *err);
  int (*cache) (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
                uint32_t flags, int *err);
};

#define NBDKIT_REGISTER_FILTER(filter)                                                       \
  NBDKIT_CXX_LANG_C NBDKIT_DLL_PUBLIC                                                        \
  struct nbdkit_filter *filter_init (void)                                                   \
  {                                                                                          \
    (filter)._api_version = NBDKIT_FILTER_API_VERSION;                                       \
    (filter)._version = NBDKIT_VERSION_STRING;                                               \
    return &(filter);                                                                        \
  }

#ifdef __cplusplus
}
#endif

#endif /* NBDKIT_FILTER_H */
