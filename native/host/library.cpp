// See library.hpp.
#include "host/library.hpp"

#include <atomic>
#include <cstring>
#include <dlfcn.h>
#include <gnu/lib-names.h>
#include <ostream>
#include <unistd.h>

#include "host/abi.hpp"

namespace asyncnbd::host {

namespace {

// The loader opened this addon for Node with its symbols private. Opening it again, by the name
// it has, makes its exports (a version script leaves nbdkit_* alone) visible to plugins.
bool promote_own_symbols(std::string *error) {
  static bool promoted = false; // only ever called on threads that load plugins, under the loader
  // A program that has the functions itself, such as a test, has nothing to promote.
  // (RTLD_DEFAULT would find this object's own.)
  if (promoted || dlsym(dlopen(nullptr, RTLD_NOW), "nbdkit_error") != nullptr)
    return true;
  Dl_info self;
  if (dladdr(reinterpret_cast<void *>(&nbdkit_error), &self) == 0) {
    *error = "cannot find the addon's own file";
    return false;
  }
  if (dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL) == nullptr) {
    *error = dlerror();
    return false;
  }
  promoted = true;
  return true;
}

// node exports its own OpenSSL, zlib and others. RTLD_DEEPBIND makes a plugin that uses the
// system's libraries find those first. AddressSanitizer refuses the flag; and a sanitizer's
// report at the end of the process needs the plugin in its place.
// RTLD_GLOBAL, as in nbdkit: what a plugin's interpreter loads finds the interpreter.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int PLUGIN_FLAGS = RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE;
#else
constexpr int PLUGIN_FLAGS = RTLD_NOW | RTLD_GLOBAL | RTLD_DEEPBIND;
#endif

std::atomic<bool> keeps_libraries{false};

// node's executable has copies of some of libstdc++'s streams, which libstdc++ uses in place of
// its own. A C++ plugin opened with RTLD_DEEPBIND finds the originals, which nobody has ever
// constructed: it gets the same streams there, by way of the same buffers.
void share_standard_streams() {
  static bool shared = false;
  void *library = shared ? nullptr : dlopen("libstdc++.so.6", RTLD_NOW | RTLD_NOLOAD);
  shared = true;
  if (library == nullptr)
    return;
  for (const char *stream : {"_ZSt4cout", "_ZSt4cerr", "_ZSt4clog"}) {
    const void *used = dlsym(RTLD_DEFAULT, stream);
    void *original = dlsym(library, stream);
    if (used != nullptr && original != nullptr && used != original)
      memcpy(original, used, sizeof(std::ostream));
  }
}

} // namespace

// The variable `environ` of node's executable is a copy of the C library's, and the C library
// uses the copy. A plugin opened with RTLD_DEEPBIND finds the original, which nobody has set.
void share_environment() {
  static char ***original = [] {
    void *libc = dlopen(LIBC_SO, RTLD_NOW | RTLD_NOLOAD);
    return libc == nullptr ? nullptr : static_cast<char ***>(dlsym(libc, "environ"));
  }();
  if (original != nullptr)
    *original = environ;
}

bool Library::open(const std::string &path, std::string *error) {
  if (!promote_own_symbols(error))
    return false;
  share_standard_streams();
  handle_ = dlopen(path.c_str(), PLUGIN_FLAGS);
  if (handle_ == nullptr)
    *error = dlerror();
  return handle_ != nullptr;
}

void keep_libraries() {
  keeps_libraries.store(true);
}

void Library::close() {
  if (handle_ != nullptr && !keeps_libraries.load())
    dlclose(handle_);
  handle_ = nullptr;
}

void *Library::symbol(const std::string &name) const {
  return dlsym(handle_, name.c_str());
}

} // namespace asyncnbd::host
