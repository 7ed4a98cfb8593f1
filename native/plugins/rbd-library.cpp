// See rbd-library.hpp.
#include "rbd-library.hpp"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "found-library.hpp"

namespace rbd {

namespace {

constexpr const char *PACKAGE = "the package librbd1 (Debian, Ubuntu, Fedora, RHEL) has it";

void *open_library(const char *name) {
  void *const handle = found::open_library(name);
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
  return found::load_once(load);
}

} // namespace rbd
