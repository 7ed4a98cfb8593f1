// Opens a library that a plugin needs only at run time, and looks up its functions once.
#ifndef ASYNCNBD_FOUND_LIBRARY_HPP
#define ASYNCNBD_FOUND_LIBRARY_HPP

#include <dlfcn.h>
#include <mutex>

namespace found {

/// Opens a library so that it uses the system's OpenSSL instead of Node's, except under sanitizers,
/// which do not allow RTLD_DEEPBIND. Null on failure: see dlerror().
inline void *open_library(const char *name) {
  const bool is_sanitized = dlsym(RTLD_DEFAULT, "__asan_init") != nullptr ||
                            dlsym(RTLD_DEFAULT, "__tsan_init") != nullptr;
  return dlopen(name, RTLD_NOW | RTLD_LOCAL | (is_sanitized ? 0 : RTLD_DEEPBIND));
}

/// The library that `load` has filled in. Calls `load` until it succeeds once; the result is never
/// freed. Null if it has failed this time.
template <typename Library> const Library *load_once(bool (*load)(Library &)) {
  static std::mutex mutex;
  static Library loaded;
  static bool is_loaded = false;
  std::lock_guard lock(mutex);
  if (!is_loaded)
    is_loaded = load(loaded);
  return is_loaded ? &loaded : nullptr;
}

} // namespace found

#endif
