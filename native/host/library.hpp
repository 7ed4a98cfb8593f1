// Opens the shared object of a C plugin so that it finds the nbdkit_* functions of this addon
// and, for all else, its own libraries.
#pragma once

#include <string>

namespace asyncnbd::host {

// Stays mapped unless it is closed: only who has called a plugin's unload knows that nothing of it
// runs any more.
class Library {
public:
  Library() = default;
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;

  // False, with the loader's reason in *error, if it cannot be opened.
  bool open(const std::string &path, std::string *error);
  void close();

  // nullptr if there is no such symbol.
  void *symbol(const std::string &name) const;

private:
  void *handle_ = nullptr;
};

// From now on close unmaps nothing. For a process that ends with its server: a plugin's destructors
// may wait for a thread of its own, and such threads may still run, when the end is near.
void keep_libraries();

// Lets plugins see the process's environment as it is now; call it before their callbacks at the
// start. They have a variable `environ` of their own: see library.cpp.
void share_environment();

} // namespace asyncnbd::host
