// See library.hpp.
#include "host/library.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <gnu/lib-names.h>
#include <ostream>
#include <set>
#include <string_view>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>
#include <utility>

#include "base/error_numbers.hpp"
#include "base/high_fd.hpp"
#include "host/abi.hpp"
#include "host/bindings.hpp"
#include "host/copies.hpp"
#include "host/log.hpp"
#include "host/log_scope.hpp"
#include "host/symbol_scope.hpp"

namespace asyncnbd::host {

namespace {

// Node has opened this addon with private symbols. Opening it again, by its own name, makes its
// exports (a version script limits them to nbdkit_*) visible to plugins.
bool promote_own_symbols(std::string *error) {
  static bool promoted = false; // only threads that open plugins call this, one at a time
  // A program that has the functions itself, such as a test, needs no promotion. (RTLD_DEFAULT
  // would find this object's own.)
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

std::atomic<bool> keeps_libraries{false}; // a setting, pairs with nothing

// node's executable has copies of some of libstdc++'s streams, which libstdc++ uses in place of its
// own. A C++ plugin opened with RTLD_DEEPBIND finds the originals, which nobody has ever
// constructed: giving them the same buffers makes them the same streams.
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

// The same for `environ`, because constructors may need it before bindings.hpp has mended it.
void share_environment() {
  void *libc = dlopen(LIBC_SO, RTLD_NOW | RTLD_NOLOAD);
  void *original = libc == nullptr ? nullptr : dlsym(libc, "environ");
  if (original != nullptr)
    *static_cast<char ***>(original) = environ;
}

// If the flags have RTLD_DEEPBIND, mends the bindings afterwards.
void *open_file(const std::string &path, int flags) {
  note_loaded_objects();
  void *handle = dlopen(path.c_str(), flags);
  if (handle != nullptr && (flags & RTLD_DEEPBIND) != 0)
    mend_bindings();
  return handle;
}

// Libraries with state of their own, which two copies of a plugin would share.
constexpr std::array<std::string_view, 6> STATEFUL = {"libguestfs.so", "liblua",  "libperl.so",
                                                      "libpython",     "libruby", "libtcl"};

bool is_stateful(std::string_view name) {
  return std::any_of(STATEFUL.begin(), STATEFUL.end(), [name](std::string_view prefix) {
    return name.substr(0, prefix.size()) == prefix;
  });
}

// Stateful libraries that plugins of this process have used; they stay initialised.
std::set<std::string> &stateful_in_use() {
  static std::set<std::string> *names = new std::set<std::string>;
  return *names;
}

// The stateful libraries that a plugin is linked to, also through other libraries if these are
// loaded.
std::vector<std::string> stateful_needs(const ElfFacts &facts) {
  const std::vector<std::string> loaded = loaded_objects();
  std::vector<std::string> needs = facts.needed;
  for (size_t i = 0; i < needs.size(); i++) {
    const std::string ending = "/" + needs[i];
    for (const std::string &path : loaded) {
      if (path.size() < ending.size() ||
          path.compare(path.size() - ending.size(), ending.size(), ending) != 0)
        continue;
      for (std::string &name : read_needed(path).value_or(std::vector<std::string>()))
        if (std::find(needs.begin(), needs.end(), name) == needs.end())
          needs.push_back(std::move(name));
    }
  }
  needs.erase(std::remove_if(needs.begin(), needs.end(),
                             [](const std::string &name) { return !is_stateful(name); }),
              needs.end());
  return needs;
}

// Copies a file to memory; close-on-exec. -1, with errno, on failure.
int copy_of(const std::string &path) {
  const int from = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (from == -1)
    return -1;
  int to = base::moved_high(memfd_create(path.substr(path.rfind('/') + 1).c_str(), MFD_CLOEXEC));
  ssize_t done = to == -1 ? -1 : 1;
  while (done > 0)
    done = sendfile(to, from, nullptr, 1 << 30);
  const int error = errno;
  ::close(from);
  if (done == -1 && to != -1) {
    ::close(to);
    to = -1;
  }
  errno = error;
  return to;
}

std::string name_of_copy(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

constexpr const char *const ALTERNATIVE = "; serve each instance from a process of its own";

} // namespace

bool Library::open(const std::string &path, ServesMany serves_many, std::string *error) {
  if (!promote_own_symbols(error))
    return false;
  share_standard_streams();
  share_environment();
  handle_ = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  const bool is_loaded = handle_ != nullptr;
  if (is_loaded && serves_many(*this)) {
    own_lines();
    return true;
  }
  if (is_loaded)
    dlclose(std::exchange(handle_, nullptr));
  // A file that cannot be read cannot be opened either, and the loader says why.
  const ElfFacts facts = read_elf(path).value_or(ElfFacts());
  if (is_sanitizer_missing(facts)) {
    *error = "it was built with a sanitizer (" + facts.sanitizer +
             "), whose runtime must be there when the program starts: use LD_PRELOAD";
    return false;
  }
  for (const std::string &name : stateful_needs(facts))
    if (stateful_in_use().count(name) != 0) {
      *error = "it needs " + name +
               ", which another plugin of this process uses already and which "
               "keeps global state" +
               ALTERNATIVE;
      return false;
    }
  if (!(!is_loaded ? open_first(path, facts, error) : open_copy(path, facts, error)))
    return false;
  own_lines();
  for (std::string &name : stateful_needs(facts)) {
    keeps_state_ = true;
    stateful_in_use().insert(std::move(name));
  }
  return true;
}

void Library::own_lines() {
  lines_ = std::make_unique<LogOwner>(code_of(handle_), current_log());
}

// RTLD_GLOBAL, as in nbdkit: modules that a plugin's interpreter loads must find the interpreter.
bool Library::open_first(const std::string &path, const ElfFacts &facts, std::string *error) {
  const SymbolScope scope = scope_for(facts);
  if (!scope.own_first)
    log_debug("%s: the process's libraries come first, because %s", path.c_str(),
              scope.reason.c_str());
  handle_ = open_file(path, RTLD_NOW | RTLD_GLOBAL | (scope.own_first ? RTLD_DEEPBIND : 0));
  if (handle_ == nullptr)
    *error = dlerror();
  return handle_ != nullptr;
}

// The loader would return the library that it already has, with the other instance's variables. A
// copy of the file has its own, if its symbols are first looked for in itself.
bool Library::open_copy(const std::string &path, const ElfFacts &facts, std::string *error) {
  const std::string already = "an instance of it is loaded already, and ";
  if (facts.has_unique_symbols) {
    *error = already + "all copies of it in a process share its STB_GNU_UNIQUE symbols: compile it "
                       "with -fno-gnu-unique, or serve each instance from a process of its own";
    return false;
  }
  if (const SymbolScope scope = scope_for(facts); !scope.own_first) {
    *error = already + "a copy would share its variables, because " + scope.reason + ALTERNATIVE;
    return false;
  }
  copy_fd_ = copy_of(path);
  if (copy_fd_ == -1) {
    *error = already + "it cannot be copied: " + base::error_text(errno);
    return false;
  }
  const std::string name = name_of_copy(copy_fd_);
  note_copy(name, path);
  handle_ = open_file(name, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (handle_ == nullptr) {
    *error = already + "a copy cannot be opened: " + dlerror();
    close_copy();
  }
  return handle_ != nullptr;
}

// The loader distinguishes libraries by name, and never unloads some (-z nodelete, as for all of
// Go's). If another copy got the name of such a one, the loader would return the old one for it.
void Library::close_copy() {
  const std::string name = name_of_copy(copy_fd_);
  if (void *kept = dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
    dlclose(kept);
    return;
  }
  forget_copy(name);
  ::close(std::exchange(copy_fd_, -1));
}

void keep_libraries() {
  keeps_libraries.store(true);
}

bool Library::close() {
  if (handle_ == nullptr || keeps_state_ || keeps_libraries.load())
    return false;
  dlclose(std::exchange(handle_, nullptr)); // first: destructors may wait for threads that log
  lines_.reset();
  if (copy_fd_ != -1)
    close_copy();
  return true;
}

void *Library::symbol(const std::string &name) const {
  return dlsym(handle_, name.c_str());
}

} // namespace asyncnbd::host
