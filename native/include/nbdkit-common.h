/* Constants and server functions that plugins and filters may use; include nbdkit-plugin.h or
 * nbdkit-filter.h instead of this file.
 *
 * Unless its comment says otherwise, a function here may be called from any thread and from any
 * callback, and a function that fails has already reported why with nbdkit_error.
 */

#ifndef NBDKIT_COMMON_H
#define NBDKIT_COMMON_H

#if !defined(NBDKIT_PLUGIN_H) && !defined(NBDKIT_FILTER_H)
#error "include <nbdkit-plugin.h> or <nbdkit-filter.h>, which includes this file"
#endif

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "nbdkit-version.h"

#ifdef __cplusplus
#define NBDKIT_CXX_LANG_C extern "C"
extern "C" {
#else
#define NBDKIT_CXX_LANG_C
#endif

#if defined(__GNUC__) || defined(__clang__)
#define ATTRIBUTE_FORMAT_PRINTF(fmtpos, argpos) \
  __attribute__((__format__(__printf__, fmtpos, argpos)))
#define NBDKIT_DLL_PUBLIC __attribute__((__visibility__("default")))
#else
#define ATTRIBUTE_FORMAT_PRINTF(fmtpos, argpos)
#define NBDKIT_DLL_PUBLIC
#endif

#define NBDKIT_EXTERN_DECL(ret, fn, args) extern ret fn args

/* Thread models, from the most to the least restrictive. */
#define NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS 0  /* one client at a time */
#define NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS 1 /* one callback at a time */
#define NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS 2     /* one request at a time per handle */
#define NBDKIT_THREAD_MODEL_PARALLEL 3               /* any number, on any handle */
#define NBDKIT_THREAD_MODEL_ASYNC 4                  /* asyncnbd only: see async_pread */

/* Bits of the flags argument of data callbacks. */
#define NBDKIT_FLAG_MAY_TRIM (1 << 0)  /* zero: may punch a hole that reads as zeroes */
#define NBDKIT_FLAG_FUA (1 << 1)       /* pwrite, trim, zero: be on stable storage first */
#define NBDKIT_FLAG_REQ_ONE (1 << 2)   /* extents: the first extent is enough */
#define NBDKIT_FLAG_FAST_ZERO (1 << 3) /* zero: fail with ENOTSUP unless faster than pwrite */

/* Results of can_fua. */
#define NBDKIT_FUA_NONE 0    /* clients are not offered FUA */
#define NBDKIT_FUA_EMULATE 1 /* the server calls flush after the write */
#define NBDKIT_FUA_NATIVE 2  /* the callbacks obey NBDKIT_FLAG_FUA */

/* Results of can_cache. */
#define NBDKIT_CACHE_NONE 0    /* clients are not offered caching */
#define NBDKIT_CACHE_EMULATE 1 /* the server reads the range and drops the data */
#define NBDKIT_CACHE_NATIVE 2  /* the cache callback is called, if there is one */

/* Bits of an extent's type; 0 is allocated data. */
#define NBDKIT_EXTENT_HOLE (1 << 0) /* not allocated */
#define NBDKIT_EXTENT_ZERO (1 << 1) /* reads as zeroes */

/* A handle for plugins that keep nothing per connection: some pointer that is not NULL. */
#define NBDKIT_HANDLE_NOT_NEEDED (&errno)

/* ---- messages -------------------------------------------------------------------------- */

/* Logs one error line, formatted as by printf (%m gives strerror(errno)). Keeps errno. */
NBDKIT_EXTERN_DECL(void, nbdkit_error, (const char *msg, ...) ATTRIBUTE_FORMAT_PRINTF(1, 2));
NBDKIT_EXTERN_DECL(void, nbdkit_verror,
                   (const char *msg, va_list args) ATTRIBUTE_FORMAT_PRINTF(1, 0));

/* Logs one line when the server runs with --verbose. Keeps errno. */
NBDKIT_EXTERN_DECL(void, nbdkit_debug, (const char *msg, ...) ATTRIBUTE_FORMAT_PRINTF(1, 2));
NBDKIT_EXTERN_DECL(void, nbdkit_vdebug,
                   (const char *msg, va_list args) ATTRIBUTE_FORMAT_PRINTF(1, 0));

/* ---- parsing of parameters; -1 on error, and then *r is untouched; r may be NULL --------- */

/* Decimal, 0x hexadecimal or 0 octal numbers. `what` names the parameter in the message. */
NBDKIT_EXTERN_DECL(int, nbdkit_parse_int, (const char *what, const char *str, int *r));
NBDKIT_EXTERN_DECL(int, nbdkit_parse_unsigned, (const char *what, const char *str, unsigned *r));
NBDKIT_EXTERN_DECL(int, nbdkit_parse_int8_t, (const char *what, const char *str, int8_t *r));
NBDKIT_EXTERN_DECL(int, nbdkit_parse_uint8_t, (const char *what, const char *str, uint8_t *r));
NBDKIT_EXTERN_DECL(int, nbdkit_parse_int16_t, (const char *what, const char *str, int16_t *r));
NBDKIT_EXTERN_DECL(int, nbdkit_parse_uint16_t, (const char *what, const char *str, uint16_t *r));
NBDKIT_EXTERN_DECL(int, nbdkit_parse_int32_t, (const char *what, const char *str, int32_t *r));
NBDKIT_EXTERN_DECL(int, nbdkit_parse_uint32_t, (const char *what, const char *str, uint32_t *r));
NBDKIT_EXTERN_DECL(int, nbdkit_parse_int64_t, (const char *what, const char *str, int64_t *r));
NBDKIT_EXTERN_DECL(int, nbdkit_parse_uint64_t, (const char *what, const char *str, uint64_t *r));

/* A size in bytes: a decimal number and one of b k m g t p e (powers of 1024) or s (512). */
NBDKIT_EXTERN_DECL(int64_t, nbdkit_parse_size, (const char *str));

/* 1 for 1/true/t/yes/y/on, 0 for 0/false/f/no/n/off, in any case of letters. */
NBDKIT_EXTERN_DECL(int, nbdkit_parse_bool, (const char *str));

/* A probability: 0.1, 1e-1, 10%, 1:10 or 1/10; finite and not negative, but it may exceed 1
 * (nbdkit >= 1.36). */
NBDKIT_EXTERN_DECL(int, nbdkit_parse_probability,
                   (const char *what, const char *str, double *ret));

/* A time: a number, not negative, and s (or nothing), ms, us or ns (nbdkit >= 1.40). */
NBDKIT_EXTERN_DECL(int, nbdkit_parse_delay,
                   (const char *what, const char *str, unsigned *sec, unsigned *nsec));

/* Sets *password (free it) from: the text itself; "-" asked on the terminal; "-FD" the first
 * line of that file descriptor, which is closed; "+FILE" the first line of that file. */
NBDKIT_EXTERN_DECL(int, nbdkit_read_password, (const char *value, char **password));

/* 1 while stdin and stdout are the user's: before get_ready, and not with --single. */
NBDKIT_EXTERN_DECL(int, nbdkit_stdio_safe, (void));

/* The path made absolute against the working directory, existing or not; NULL on error. Free
 * it. Call it before get_ready returns: the server may change directory after that. */
NBDKIT_EXTERN_DECL(char *, nbdkit_absolute_path, (const char *path));

/* As realpath(3): the path must exist. NULL on error. Free it. */
NBDKIT_EXTERN_DECL(char *, nbdkit_realpath, (const char *path));

/* ---- the connection being served --------------------------------------------------------- */

/* The peer's address, as getpeername(2). Inside a connection only; -1 on error. */
NBDKIT_EXTERN_DECL(int, nbdkit_peer_name, (struct sockaddr * addr, socklen_t *addrlen));

/* The peer's process, user and group over a unix socket; -1 on error or another transport. */
NBDKIT_EXTERN_DECL(int64_t, nbdkit_peer_pid, (void));
NBDKIT_EXTERN_DECL(int64_t, nbdkit_peer_uid, (void));
NBDKIT_EXTERN_DECL(int64_t, nbdkit_peer_gid, (void));

/* The peer's SELinux context over a unix socket; free it. NULL on error (nbdkit >= 1.36). */
NBDKIT_EXTERN_DECL(char *, nbdkit_peer_security_context, (void));

/* The distinguished name of the peer's certificate, and of who issued it; free them. "" if the
 * peer has shown none that was verified. NULL on error (nbdkit >= 1.40). */
NBDKIT_EXTERN_DECL(char *, nbdkit_peer_tls_dn, (void));
NBDKIT_EXTERN_DECL(char *, nbdkit_peer_tls_issuer_dn, (void));

/* Sleeps; returns -1 (errno ESHUTDOWN) early when the client leaves or the server stops. */
NBDKIT_EXTERN_DECL(int, nbdkit_nanosleep, (unsigned sec, unsigned nsec));

/* Asks the server to stop. Returns at once; further callbacks may come. */
NBDKIT_EXTERN_DECL(void, nbdkit_shutdown, (void));

/* Ends this connection (nbdkit >= 1.34). force != 0: now, nothing in flight is answered.
 * force == 0: requests in flight finish, further ones get ESHUTDOWN. */
NBDKIT_EXTERN_DECL(void, nbdkit_disconnect, (int force));

/* ---- strings the server keeps ------------------------------------------------------------ */

/* A copy that lives as long as the connection being served or, outside one, as the process.
 * NULL on error. */
NBDKIT_EXTERN_DECL(const char *, nbdkit_strdup_intern, (const char *str));
NBDKIT_EXTERN_DECL(const char *, nbdkit_strndup_intern, (const char *str, size_t n));
NBDKIT_EXTERN_DECL(const char *, nbdkit_printf_intern,
                   (const char *msg, ...) ATTRIBUTE_FORMAT_PRINTF(1, 2));
NBDKIT_EXTERN_DECL(const char *, nbdkit_vprintf_intern,
                   (const char *msg, va_list args) ATTRIBUTE_FORMAT_PRINTF(1, 0));

/* ---- results collected by list_exports and extents --------------------------------------- */

struct nbdkit_extents;
struct nbdkit_exports;

/* Adds [offset, offset + length) of one type; extents come in ascending order without gaps.
 * For the thread in the extents callback only. */
NBDKIT_EXTERN_DECL(int, nbdkit_add_extent, (struct nbdkit_extents *, uint64_t offset,
                                            uint64_t length, uint32_t type));

/* Adds one export; name and description (or NULL) are at most 4096 bytes of UTF-8 and are
 * copied. For the thread in the list_exports callback only. */
NBDKIT_EXTERN_DECL(int, nbdkit_add_export,
                   (struct nbdkit_exports *, const char *name, const char *description));

/* Adds the name that default_export gives. */
NBDKIT_EXTERN_DECL(int, nbdkit_use_default_export, (struct nbdkit_exports *));

#ifdef __cplusplus
}
#endif

#endif /* NBDKIT_COMMON_H */
