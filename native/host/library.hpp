// Opens the shared object of a C plugin so that it finds the nbdkit_* functions of this addon
// and, for all else, its own libraries; one that is in use already, as a copy with variables of
// its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/elf.hpp"
#include "host/log_owner.hpp"

namespace asyncnbd::host {

// Stays mapped unless it is closed: only who has called a plugin's unload knows that nothing of it
// runs any more.
class Library {
public:
  // Whether one library serves several instances of its plugin.
  using ServesMany = bool (*)(const Library &library);

  Library() = default;
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;

  // One thread at a time, whose log is that of the library's own threads. False, with the reason in
  // *error, if it cannot be opened.
  bool open(const std::string &path, ServesMany serves_many, std::string *error);
  // Whether it is not mapped any more for this instance.
  bool close();

  // nullptr if there is no such symbol.
  void *symbol(const std::string &name) const;

private:
  bool open_first(const std::string &path, const ElfFacts &facts, std::string *error);
  bool open_copy(const std::string &path, const ElfFacts &facts, std::string *error);
  void close_copy();

  void own_lines();

  void *handle_ = nullptr;
  std::unique_ptr<LogOwner> lines_; // what its threads say is for who has opened it
  int copy_fd_ = -1; // of the file that a copy was loaded from, while the loader has its name
  bool keeps_state_ = false; // in a library that is never loaded a second time
};

// From now on close unmaps nothing. For a process that ends with its server: a plugin's destructors
// may wait for a thread of its own, and such threads may still run, when the end is near.
void keep_libraries();

} // namespace asyncnbd::host
