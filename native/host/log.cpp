// See log.hpp. Also nbdkit_error, nbdkit_debug and their va_list forms, and asyncnbd_warning.
#include "host/log.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "host/abi.hpp"
#include "host/context.hpp"
#include "host/log_owner.hpp"
#include "host/log_text.hpp"
#include "host/thread_state.hpp"

namespace asyncnbd::host {

using base::LogLevel;

namespace {

// Belongs to the process: nbdkit_error has no argument that says whose line it is.
base::LogWriter &writer() {
  static auto *writer = new base::LogWriter;
  return *writer;
}

std::atomic<bool> verbose_lines{false}; // a setting, pairs with nothing, as are the next two
std::atomic<bool> control_lines{true};
std::atomic<bool> data_lines{true};

std::string formatted(const char *format, va_list args) {
  char *text = nullptr;
  if (vasprintf(&text, format, args) == -1)
    return format; // better the bare format than no line
  std::string result(text);
  free(text);
  return result;
}

std::string prefix() {
  const CallContext *context = thread_state().context;
  if (context == nullptr)
    return {};
  return context->plugin_name + "[" + std::to_string(context->number) + "]: ";
}

// Where the calling thread's lines go; nullptr: to the process's log. `caller`: an address in the
// plugin's code that logs.
class CurrentTarget {
public:
  explicit CurrentTarget(const void *caller) {
    const ThreadState &state = thread_state();
    if (state.context != nullptr && state.context->server != nullptr) {
      target_ = state.context->server->log().get();
    } else if (state.is_log_known || state.log != nullptr) {
      target_ = state.log;
    } else {
      kept_ = log_of_code(caller);
      target_ = kept_.get();
    }
  }
  LogTarget *get() const { return target_; }

private:
  std::shared_ptr<LogTarget> kept_;
  LogTarget *target_;
};

void put(LogTarget *target, LogLevel level, const std::string &whose, const std::string &text) {
  if (target != nullptr)
    target->write(level, whose + text);
  else
    writer().write(level, whose, text);
}

// The text that a client has sent, perhaps to fake log lines.
const char *word_of_client() {
  const CallContext *context = thread_state().context;
  return context == nullptr ? nullptr : context->export_name.load();
}

void emit_error(const std::string &text, const void *caller = nullptr) {
  thread_state().error_messages++;
  thread_state().error_message = without_passwords(text); // clients may get it
  put(CurrentTarget(caller).get(), LogLevel::error, prefix(), loggable(text, word_of_client()));
}

void verror_keeping_errno(const char *format, va_list args, const void *caller = nullptr) {
  int saved = errno;
  std::string text = formatted(format, args); // before anything else: %m reads errno
  emit_error(text, caller);
  errno = saved;
}

void vdebug_keeping_errno(const char *format, va_list args, LogTarget *target) {
  int saved = errno;
  std::string text = formatted(format, args);
  put(target, LogLevel::debug, prefix(), loggable(text, word_of_client()));
  errno = saved;
}

// From a plugin: a program's logger decides itself whether it wants the line.
void vdebug_of_plugin(const char *format, va_list args, const void *caller) {
  const CurrentTarget target(caller);
  if (log_is_verbose() || target.get() != nullptr)
    vdebug_keeping_errno(format, args, target.get());
}

} // namespace

void log_configure(const std::string &program, bool verbose, LogSink sink) {
  verbose_lines.store(verbose, std::memory_order_relaxed);
  writer().configure(program, sink);
}

int log_open_file(const std::string &path) {
  return writer().open_file(path);
}

void log_keep_stderr() {
  writer().keep_stderr();
}

bool log_is_verbose() {
  return verbose_lines.load(std::memory_order_relaxed);
}

void log_choose_paths(bool control, bool data) {
  control_lines.store(control, std::memory_order_relaxed);
  data_lines.store(data, std::memory_order_relaxed);
}

bool log_shows_requests() {
  return log_is_verbose() && data_lines.load(std::memory_order_relaxed);
}

int log_file() {
  return writer().file_fd();
}

LogSink log_sink() {
  return writer().sink();
}

void log_error(const char *format, ...) {
  va_list args;
  va_start(args, format);
  verror_keeping_errno(format, args);
  va_end(args);
}

void log_debug(const char *format, ...) {
  if (!log_is_verbose())
    return;
  va_list args;
  va_start(args, format);
  vdebug_keeping_errno(format, args, CurrentTarget(nullptr).get());
  va_end(args);
}

void log_control(const char *format, ...) {
  if (!log_is_verbose() || !control_lines.load(std::memory_order_relaxed))
    return;
  va_list args;
  va_start(args, format);
  vdebug_keeping_errno(format, args, CurrentTarget(nullptr).get());
  va_end(args);
}

void log_error_text(const std::string &text) {
  emit_error(text);
}

void log_warning_text(const std::string &text) {
  put(CurrentTarget(nullptr).get(), LogLevel::warning, prefix(), loggable(text, word_of_client()));
}

void log_debug_text(const std::string &text) {
  if (log_is_verbose())
    put(CurrentTarget(nullptr).get(), LogLevel::debug, prefix(), loggable(text, word_of_client()));
}

void log_warning_of(const std::string &whose, const std::string &text, LogTarget *target) {
  put(target, LogLevel::warning, whose, loggable(text, nullptr));
}

void log_info_of(const std::string &whose, const std::string &text, LogTarget *target) {
  put(target, LogLevel::info, whose, loggable(text, nullptr));
}

void log_debug_of(const std::string &whose, const std::string &text, LogTarget *target) {
  if (target != nullptr || log_is_verbose())
    put(target, LogLevel::debug, whose, loggable(text, nullptr));
}

} // namespace asyncnbd::host

using namespace asyncnbd::host;

extern "C" {

NBDKIT_DLL_PUBLIC void nbdkit_verror(const char *msg, va_list args) {
  verror_keeping_errno(msg, args, __builtin_return_address(0));
}

NBDKIT_DLL_PUBLIC void nbdkit_error(const char *msg, ...) {
  va_list args;
  va_start(args, msg);
  verror_keeping_errno(msg, args, __builtin_return_address(0));
  va_end(args);
}

NBDKIT_DLL_PUBLIC void nbdkit_vdebug(const char *msg, va_list args) {
  vdebug_of_plugin(msg, args, __builtin_return_address(0));
}

NBDKIT_DLL_PUBLIC void nbdkit_debug(const char *msg, ...) {
  va_list args;
  va_start(args, msg);
  vdebug_of_plugin(msg, args, __builtin_return_address(0));
  va_end(args);
}

NBDKIT_DLL_PUBLIC void asyncnbd_warning(const char *msg, ...) {
  const int saved = errno;
  va_list args;
  va_start(args, msg);
  const std::string text = formatted(msg, args);
  va_end(args);
  put(CurrentTarget(__builtin_return_address(0)).get(), LogLevel::warning, prefix(),
      loggable(text, word_of_client()));
  errno = saved;
}

} // extern "C"
