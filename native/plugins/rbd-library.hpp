// librados and librbd, found at run time, so that one binary works with and without them. Declared
// here from their documented C interface, so that the build does not need Ceph; a test compares the
// declarations with Ceph's own headers.
#ifndef ASYNCNBD_RBD_LIBRARY_HPP
#define ASYNCNBD_RBD_LIBRARY_HPP

#include <cstddef>
#include <cstdint>
#include <sys/types.h>

namespace rbd {

using rados_t = void *;
using rados_ioctx_t = void *;
using rbd_image_t = void *;
using rbd_completion_t = void *;
using rbd_callback_t = void (*)(rbd_completion_t completion, void *argument);
using rbd_diff_callback_t = int (*)(uint64_t offset, size_t length, int exists, void *argument);
using rbd_encryption_options_t = void *;

struct rbd_image_spec_t {
  char *id;
  char *name;
};

/// The same as rbd_encryption_luks1_format_options_t and rbd_encryption_luks2_format_options_t.
struct luks_options_t {
  int algorithm; // ignored by rbd_encryption_load
  const char *passphrase;
  size_t passphrase_size;
};

constexpr int RBD_LOCK_MODE_EXCLUSIVE = 0;
constexpr int RBD_WRITE_ZEROES_FLAG_THICK_PROVISION = 1;
constexpr int RBD_ENCRYPTION_FORMAT_LUKS1 = 0;
constexpr int RBD_ENCRYPTION_FORMAT_LUKS2 = 1;
constexpr int RBD_ENCRYPTION_ALGORITHM_AES256 = 1;

// NAME, result, parameters. These are required.
#define ASYNCNBD_RADOS_FUNCTIONS(X)                                                                \
  X(rados_create2, int, (rados_t *, const char *cluster, const char *name, uint64_t flags))        \
  X(rados_conf_read_file, int, (rados_t, const char *path))                                        \
  X(rados_conf_parse_env, int, (rados_t, const char *variable))                                    \
  X(rados_conf_set, int, (rados_t, const char *option, const char *value))                         \
  X(rados_connect, int, (rados_t))                                                                 \
  X(rados_shutdown, void, (rados_t))                                                               \
  X(rados_ioctx_create, int, (rados_t, const char *pool, rados_ioctx_t *))                         \
  X(rados_ioctx_destroy, void, (rados_ioctx_t))                                                    \
  X(rados_ioctx_set_namespace, void, (rados_ioctx_t, const char *name))

#define ASYNCNBD_RBD_FUNCTIONS(X)                                                                  \
  X(rbd_version, void, (int *major, int *minor, int *extra))                                       \
  X(rbd_open, int, (rados_ioctx_t, const char *name, rbd_image_t *, const char *snapshot))         \
  X(rbd_open_read_only, int,                                                                       \
    (rados_ioctx_t, const char *name, rbd_image_t *, const char *snapshot))                        \
  X(rbd_close, int, (rbd_image_t))                                                                 \
  X(rbd_create, int, (rados_ioctx_t, const char *name, uint64_t size, int *order))                 \
  X(rbd_remove, int, (rados_ioctx_t, const char *name))                                            \
  X(rbd_rename, int, (rados_ioctx_t, const char *from, const char *to))                            \
  X(rbd_resize, int, (rbd_image_t, uint64_t size))                                                 \
  X(rbd_list2, int, (rados_ioctx_t, rbd_image_spec_t *, size_t * count))                           \
  X(rbd_image_spec_list_cleanup, void, (rbd_image_spec_t *, size_t count))                         \
  X(rbd_get_size, int, (rbd_image_t, uint64_t * size))                                             \
  X(rbd_get_stripe_unit, int, (rbd_image_t, uint64_t * bytes))                                     \
  X(rbd_lock_acquire, int, (rbd_image_t, int mode))                                                \
  X(rbd_aio_create_completion, int, (void *argument, rbd_callback_t, rbd_completion_t *))          \
  X(rbd_aio_get_return_value, ssize_t, (rbd_completion_t))                                         \
  X(rbd_aio_release, void, (rbd_completion_t))                                                     \
  X(rbd_aio_read, int, (rbd_image_t, uint64_t offset, size_t, char *, rbd_completion_t))           \
  X(rbd_aio_write, int, (rbd_image_t, uint64_t offset, size_t, const char *, rbd_completion_t))    \
  X(rbd_aio_discard, int, (rbd_image_t, uint64_t offset, uint64_t length, rbd_completion_t))       \
  X(rbd_aio_write_zeroes, int,                                                                     \
    (rbd_image_t, uint64_t offset, size_t, rbd_completion_t, int zero_flags, int op_flags))        \
  X(rbd_aio_flush, int, (rbd_image_t, rbd_completion_t))                                           \
  X(rbd_diff_iterate2, int,                                                                        \
    (rbd_image_t, const char *from, uint64_t offset, uint64_t length, uint8_t include_parent,      \
     uint8_t whole_object, rbd_diff_callback_t, void *argument))

// Only in newer libraries: null if missing.
#define ASYNCNBD_RBD_NEWER_FUNCTIONS(X)                                                            \
  X(rados_set_pool_full_try, void, (rados_ioctx_t))                                                \
  X(rbd_encryption_format, int,                                                                    \
    (rbd_image_t, int format, rbd_encryption_options_t, size_t options_size))                      \
  X(rbd_encryption_load, int,                                                                      \
    (rbd_image_t, int format, rbd_encryption_options_t, size_t options_size))

// NOLINTBEGIN(bugprone-macro-parentheses): types cannot be in parentheses
struct Library {
#define ASYNCNBD_MEMBER(name, result, parameters) result(*name) parameters = nullptr;
  ASYNCNBD_RADOS_FUNCTIONS(ASYNCNBD_MEMBER)
  ASYNCNBD_RBD_FUNCTIONS(ASYNCNBD_MEMBER)
  ASYNCNBD_RBD_NEWER_FUNCTIONS(ASYNCNBD_MEMBER)
#undef ASYNCNBD_MEMBER
};
// NOLINTEND(bugprone-macro-parentheses)

/// The functions, looked up at the first call and never freed, because Ceph's threads may outlive a
/// plugin. Null if the library is missing or too old, after nbdkit_error().
const Library *library();

} // namespace rbd

#endif
