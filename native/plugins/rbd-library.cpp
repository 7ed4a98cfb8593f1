// See rbd-library.hpp.
#include "rbd-library.hpp"

#include <dlfcn.h>
#include <mutex>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace rbd {

namespace {

constexpr const char *PACKAGE = "the package librbd1 (Debian, Ubuntu, Fedora, RHEL) has it";

// With its own OpenSSL, and not the one in Node; sanitizers do not allow that.
void *open_library(const char *name) {
  const bool is_sanitized = dlsym(RTLD_DEFAULT, "__asan_init") != nullptr ||
                            dlsym(RTLD_DEFAULT, "__tsan_init") != nullptr;
  void *const handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | (is_sanitized ? 0 : RTLD_DEEPBIND));
  if (handle == nullptr)
    nbdkit_error("rbd needs %s: %s; %s", name, dlerror(), PACKAGE);
  return handle;
}

bool load(Library &library) {
  void *const rados = open_library("librados.so.2");
  if (rados == nullptr)
    return false;
  void *const rbd = open_library("librbd.so.1");
  if (rbd == nullptr)
    return false;
  const char *missing = nullptr;
  // NOLINTBEGIN(bugprone-macro-parentheses): types cannot be in parentheses
#define ASYNCNBD_FIND(name, result, parameters)                                                    \
  library.name = reinterpret_cast<result(*) parameters>(dlsym(HANDLE, #name));                     \
  if (library.name == nullptr)                                                                     \
    missing = #name;
#define HANDLE rados
  ASYNCNBD_RADOS_FUNCTIONS(ASYNCNBD_FIND)
#undef HANDLE
#define HANDLE rbd
  ASYNCNBD_RBD_FUNCTIONS(ASYNCNBD_FIND)
#undef HANDLE
#undef ASYNCNBD_FIND
  if (missing != nullptr) {
    nbdkit_error("librbd is too old: it has no %s; rbd needs version 15 (Octopus) or newer",
                 missing);
    return false;
  }
#define ASYNCNBD_FIND(name, result, parameters)                                                    \
  library.name =                                                                                   \
      reinterpret_cast<result(*) parameters>(dlsym(#name[1] == 'a' ? rados : rbd, #name));
  ASYNCNBD_RBD_NEWER_FUNCTIONS(ASYNCNBD_FIND)
#undef ASYNCNBD_FIND
  // NOLINTEND(bugprone-macro-parentheses)
  return true;
}

} // namespace

const Library *library() {
  static std::mutex mutex;
  static Library loaded;
  static bool is_loaded = false;
  std::lock_guard lock(mutex);
  if (!is_loaded)
    is_loaded = load(loaded);
  return is_loaded ? &loaded : nullptr;
}

} // namespace rbd
