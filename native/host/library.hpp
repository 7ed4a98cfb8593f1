// Opens the shared object of a C plugin so that it finds the nbdkit_* functions of this addon, and
// otherwise its own libraries. If it is already in use, opens a copy with variables of its own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/elf.hpp"
#include "host/log_owner.hpp"

namespace asyncnbd::host {

// Stays mapped unless it is closed: only the caller of a plugin's unload knows that none of its
// code runs any more.
class Library {
public:
  // Whether one library serves several instances of its plugin.
  using ServesMany = bool (*)(const Library &library);

  Library() = default;
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;

  // One thread at a time; the library's own threads log where that thread logs. False, with the
  // reason in *error, if it cannot be opened.
  bool open(const std::string &path, ServesMany serves_many, std::string *error);
  // True: it is no longer mapped for this instance.
  bool close();

  // nullptr: no such symbol.
  void *symbol(const std::string &name) const;

private:
  bool open_first(const std::string &path, const ElfFacts &facts, std::string *error);
  bool open_copy(const std::string &path, const ElfFacts &facts, std::string *error);
  void close_copy();

  void own_lines();

  void *handle_ = nullptr;
  std::unique_ptr<LogOwner> lines_; // its threads log where its opener does
  int copy_fd_ = -1;                // the file of a copy, while the loader has its name
  bool keeps_state_ = false;        // it uses a stateful library, which is never loaded twice
};

// From now on close unmaps nothing. For a process that ends with its server: a plugin's destructors
// may wait for its threads, which may still run at the end.
void keep_libraries();

} // namespace asyncnbd::host
