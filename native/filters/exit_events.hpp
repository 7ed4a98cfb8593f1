// Events at which a server can be told to end.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "filters/shell.hpp"

namespace asyncnbd::filters {

// Any number of each kind.
struct ExitEventNames {
  std::vector<std::string> files_created; // paths
  std::vector<std::string> files_deleted;
  std::vector<std::string> pipes_closed;   // descriptors
  std::vector<std::string> processes_exit; // their numbers
  std::vector<std::string> scripts;
};

class ExitEvents {
public:
  // nullptr, with a message in `*error`, if a descriptor or process does not exist.
  static std::unique_ptr<ExitEvents> open(ExitEventNames names, std::string *error);
  ~ExitEvents();
  ExitEvents(const ExitEvents &) = delete;
  ExitEvents &operator=(const ExitEvents &) = delete;

  // What has happened, for the log; "": nothing yet. Blocks while scripts run. Any thread.
  std::string what_has_happened() const;

private:
  explicit ExitEvents(ExitEventNames names) : names_(std::move(names)) {}

  bool open_processes(std::string *error);
  bool take_pipes(std::string *error);

  const ExitEventNames names_;
  const ShellEnvironment environment_ = ShellEnvironment::copied(); // of scripts
  std::vector<int> pipes_;                                          // the user's
  std::vector<int> processes_; // descriptors of /proc/N/stat, which stay bound to their process
};

} // namespace asyncnbd::filters
