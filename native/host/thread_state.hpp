// The thread-local half of context.hpp, for the files of this folder alone.
#pragma once

#include <cstdint>
#include <string>

namespace asyncnbd::host {

class CallContext;
class LogTarget;
class ShutdownWish;

struct ThreadState {
  CallContext *context = nullptr;
  ShutdownWish *starting = nullptr;
  void *instance = nullptr;  // if there is no context
  LogTarget *log = nullptr;  // the same
  bool is_log_known = false; // `log` is set on this thread; nullptr then means the process's log
  bool may_copy = false;     // what is called may take as long as a copy of its data
  int error = 0;
  uint64_t error_messages = 0;
  std::string error_message; // the last one since the error was cleared
};

ThreadState &thread_state(); // in context.cpp, whose scopes use it for each call

} // namespace asyncnbd::host
