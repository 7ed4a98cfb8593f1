// See log_scope.hpp.
#include "host/log_scope.hpp"

#include <utility>

#include "host/context.hpp"
#include "host/thread_state.hpp"

namespace asyncnbd::host {

std::shared_ptr<LogTarget> current_log() {
  const ThreadState &state = thread_state();
  if (state.context != nullptr && state.context->server != nullptr)
    return state.context->server->log();
  return state.log == nullptr ? nullptr : state.log->shared_from_this();
}

LogScope::LogScope(std::shared_ptr<LogTarget> log)
    : log_(std::move(log)), previous_(exchange_thread_log(log_.get())),
      was_known_(std::exchange(thread_state().is_log_known, true)) {}

LogScope::~LogScope() {
  exchange_thread_log(previous_);
  thread_state().is_log_known = was_known_;
}

void know_thread_log() {
  thread_state().is_log_known = true;
}

} // namespace asyncnbd::host
