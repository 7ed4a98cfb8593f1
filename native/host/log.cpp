// See log.hpp. Also nbdkit_error, nbdkit_debug and their va_list forms.
#include "host/log.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <syslog.h>
#include <unistd.h>

#include "host/abi.hpp"
#include "host/context.hpp"
#include "base/high_fd.hpp"
#include "host/log_text.hpp"
#include "host/thread_state.hpp"

namespace asyncnbd::host {

namespace {

// Written by log_configure at start-up, before there are other threads, except the sink and the
// flag: those change when the server goes to the background.
std::string &program_name() {
  static std::string *name = new std::string("asyncnbd");
  return *name;
}
// Settings: they pair with nothing, a line at the same time goes the old way or the new.
std::atomic<bool> verbose_lines{false};
std::atomic<LogSink> error_sink{LogSink::standard_error};
std::atomic<int> lines_fd{STDERR_FILENO};
std::atomic<int> file_fd{-1};

std::string formatted(const char *format, va_list args) {
  char *text = nullptr;
  if (vasprintf(&text, format, args) == -1)
    return format; // better the bare format than silence
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

// As a client has sent it, perhaps to look like something else in a log.
const char *word_of_client() {
  const CallContext *context = thread_state().context;
  return context == nullptr ? nullptr : context->export_name;
}

void write_line(int fd, const char *level, const std::string &whose, const std::string &text) {
  std::string line = program_name() + ": " + whose + level + ": " + text + "\n";
  // One write, so that lines of several threads do not mix. There is nowhere to report a failure.
  (void)!write(fd, line.data(), line.size());
}

struct Level {
  const char *name;
  int syslog_priority;
};
constexpr Level ERROR{"error", LOG_ERR};
constexpr Level WARNING{"warning", LOG_WARNING};
constexpr Level INFO{"info", LOG_INFO};

void emit(const Level &level, const std::string &whose, const std::string &text) {
  switch (error_sink.load(std::memory_order_relaxed)) {
  case LogSink::standard_error:
    write_line(lines_fd.load(std::memory_order_relaxed), level.name, whose, text);
    break;
  case LogSink::file:
    write_line(file_fd.load(std::memory_order_relaxed), level.name, whose, text);
    break;
  case LogSink::syslog:
    syslog(LOG_DAEMON | level.syslog_priority, "%s%s", whose.c_str(), text.c_str());
    break;
  case LogSink::none:
    break;
  }
}

void emit_error(const std::string &text) {
  thread_state().error_messages++;
  thread_state().error_message = without_passwords(text); // which a client may be told
  emit(ERROR, prefix(), loggable(text, word_of_client()));
}

void emit_debug(const std::string &whose, const std::string &text) {
  if (log_is_verbose())
    write_line(lines_fd.load(std::memory_order_relaxed), "debug", whose, text);
}

void verror_keeping_errno(const char *format, va_list args) {
  int saved = errno;
  std::string text = formatted(format, args); // before anything else: %m reads errno
  emit_error(text);
  errno = saved;
}

void vdebug_keeping_errno(const char *format, va_list args) {
  if (!log_is_verbose())
    return;
  int saved = errno;
  std::string text = formatted(format, args);
  emit_debug(prefix(), loggable(text, word_of_client()));
  errno = saved;
}

} // namespace

void log_configure(const std::string &program, bool verbose, LogSink sink) {
  if (program_name() != program)
    program_name() = program;
  verbose_lines.store(verbose, std::memory_order_relaxed);
  error_sink.store(sink, std::memory_order_relaxed);
  // The number is not given back, as another thread may be about to write to it.
  if (const int kept = lines_fd.exchange(STDERR_FILENO); kept != STDERR_FILENO)
    dup3(STDERR_FILENO, kept, O_CLOEXEC);
  if (sink == LogSink::syslog)
    openlog(program_name().c_str(), LOG_PID, LOG_DAEMON);
}

int log_open_file(const std::string &path) {
  const int kept =
      base::moved_high(open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666));
  if (kept == -1)
    return errno;
  file_fd.store(kept);
  return 0;
}

void log_keep_stderr() {
  if (const int kept = base::high_copy(STDERR_FILENO); kept != -1)
    lines_fd.store(kept);
}

bool log_is_verbose() {
  return verbose_lines.load(std::memory_order_relaxed);
}

int log_file() {
  return file_fd.load(std::memory_order_relaxed);
}

LogSink log_sink() {
  return error_sink.load(std::memory_order_relaxed);
}

void log_error(const char *format, ...) {
  va_list args;
  va_start(args, format);
  verror_keeping_errno(format, args);
  va_end(args);
}

void log_debug(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vdebug_keeping_errno(format, args);
  va_end(args);
}

void log_error_text(const std::string &text) {
  emit_error(text);
}

void log_warning_text(const std::string &text) {
  emit(WARNING, prefix(), loggable(text, word_of_client()));
}

void log_debug_text(const std::string &text) {
  emit_debug(prefix(), loggable(text, word_of_client()));
}

void log_warning_of(const std::string &whose, const std::string &text) {
  emit(WARNING, whose, loggable(text, nullptr));
}

void log_info_of(const std::string &whose, const std::string &text) {
  emit(INFO, whose, loggable(text, nullptr));
}

void log_debug_of(const std::string &whose, const std::string &text) {
  emit_debug(whose, loggable(text, nullptr));
}

} // namespace asyncnbd::host

using namespace asyncnbd::host;

extern "C" {

NBDKIT_DLL_PUBLIC void nbdkit_verror(const char *msg, va_list args) {
  verror_keeping_errno(msg, args);
}

NBDKIT_DLL_PUBLIC void nbdkit_error(const char *msg, ...) {
  va_list args;
  va_start(args, msg);
  verror_keeping_errno(msg, args);
  va_end(args);
}

NBDKIT_DLL_PUBLIC void nbdkit_vdebug(const char *msg, va_list args) {
  vdebug_keeping_errno(msg, args);
}

NBDKIT_DLL_PUBLIC void nbdkit_debug(const char *msg, ...) {
  va_list args;
  va_start(args, msg);
  vdebug_keeping_errno(msg, args);
  va_end(args);
}

} // extern "C"
