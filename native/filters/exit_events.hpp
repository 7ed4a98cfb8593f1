// What a server may be told to end with.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace asyncnbd::filters {

// Of each kind any number.
struct ExitEventNames {
  std::vector<std::string> files_created; // paths
  std::vector<std::string> files_deleted;
  std::vector<std::string> pipes_closed;   // descriptors
  std::vector<std::string> processes_exit; // their numbers
  std::vector<std::string> scripts;
};

class ExitEvents {
public:
  // nullptr, with words in `*error`, if there is no such descriptor or process.
  static std::unique_ptr<ExitEvents> open(ExitEventNames names, std::string *error);
  ~ExitEvents();
  ExitEvents(const ExitEvents &) = delete;
  ExitEvents &operator=(const ExitEvents &) = delete;

  // What has happened, for the log; "": nothing as yet. Blocks for as long as scripts take. Any
  // thread.
  std::string what_has_happened() const;

private:
  explicit ExitEvents(ExitEventNames names) : names_(std::move(names)) {}

  bool open_processes(std::string *error);
  bool take_pipes(std::string *error);

  const ExitEventNames names_;
  std::vector<int> pipes_;     // the user's
  std::vector<int> processes_; // descriptors of /proc/N/stat, which stay with that process
};

} // namespace asyncnbd::filters
