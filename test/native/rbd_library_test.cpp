// What rbd-library.hpp declares is what Ceph's own headers do, where those are installed.
#include <doctest/doctest.h>

#if __has_include(<rbd/librbd.h>)

#include <cstddef>
#include <rbd/librbd.h>
#include <string_view>
#include <type_traits>

#include "plugins/rbd-library.hpp"

namespace {

// Their structures and enumerations have other names than ours; those are compared below.
constexpr bool has_own_types(std::string_view name) {
  return name == "rbd_list2" || name == "rbd_image_spec_list_cleanup" ||
         name == "rbd_encryption_load" || name == "rbd_encryption_format" ||
         name == "rbd_lock_acquire";
}

#define CHECK_SAME(name, result, parameters)                                                       \
  static_assert(has_own_types(#name) ||                                                            \
                    std::is_same_v<decltype(rbd::Library::name), decltype(&::name)>,               \
                #name);
ASYNCNBD_RADOS_FUNCTIONS(CHECK_SAME)
ASYNCNBD_RBD_FUNCTIONS(CHECK_SAME)
ASYNCNBD_RBD_NEWER_FUNCTIONS(CHECK_SAME)

static_assert(std::is_same_v<decltype(&::rbd_list2),
                             int (*)(::rados_ioctx_t, ::rbd_image_spec_t *, size_t *)>);
static_assert(std::is_same_v<decltype(&::rbd_image_spec_list_cleanup),
                             void (*)(::rbd_image_spec_t *, size_t)>);
static_assert(sizeof(::rbd_image_spec_t) == sizeof(rbd::rbd_image_spec_t));
static_assert(offsetof(::rbd_image_spec_t, name) == offsetof(rbd::rbd_image_spec_t, name));

using TheirLuks = ::rbd_encryption_luks2_format_options_t;
static_assert(sizeof(TheirLuks) == sizeof(rbd::luks_options_t));
static_assert(sizeof(::rbd_encryption_luks1_format_options_t) == sizeof(rbd::luks_options_t));
static_assert(offsetof(TheirLuks, passphrase) == offsetof(rbd::luks_options_t, passphrase));
static_assert(offsetof(TheirLuks, passphrase_size) ==
              offsetof(rbd::luks_options_t, passphrase_size));
static_assert(sizeof(::rbd_encryption_format_t) == sizeof(int));
static_assert(sizeof(::rbd_lock_mode_t) == sizeof(int));

} // namespace

TEST_CASE("rbd: numbers are Ceph's") {
  CHECK(rbd::RBD_ENCRYPTION_FORMAT_LUKS1 == ::RBD_ENCRYPTION_FORMAT_LUKS1);
  CHECK(rbd::RBD_ENCRYPTION_FORMAT_LUKS2 == ::RBD_ENCRYPTION_FORMAT_LUKS2);
  CHECK(rbd::RBD_WRITE_ZEROES_FLAG_THICK_PROVISION == ::RBD_WRITE_ZEROES_FLAG_THICK_PROVISION);
  CHECK(rbd::RBD_LOCK_MODE_EXCLUSIVE == ::RBD_LOCK_MODE_EXCLUSIVE);
  CHECK(rbd::RBD_ENCRYPTION_ALGORITHM_AES256 == ::RBD_ENCRYPTION_ALGORITHM_AES256);
}

#endif
