// Log lines of the server and of plugins: "PROGRAM: [PLUGIN[N]: ]error: TEXT", as nbdkit prints
// them, because people search for these lines. Text that others have written is escaped
// (log_text.hpp).
#pragma once

#include <cstdarg>
#include <string>

#include "base/log_sink.hpp"
#include "host/log_target.hpp"

namespace asyncnbd::host {

using base::LogSink;

// Applies to the whole process; debug lines always go to standard error, as nbdkit's do.
void log_configure(const std::string &program, bool verbose, LogSink sink);

// Opens what LogSink::file appends to; 0 or an errno.
int log_open_file(const std::string &path);

// Until log_configure, lines go to the present standard error, even if that is redirected.
void log_keep_stderr();

bool log_is_verbose();
LogSink log_sink();
int log_file(); // its descriptor

// Whether debug lines show opens and questions (control), and requests (data); both by default.
// nbdkit's debug flags backend.controlpath and backend.datapath.
void log_choose_paths(bool control, bool data);
bool log_shows_requests();

// One line each, written at once; errno is kept. Any thread.
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
// As log_debug, for opens and for questions about an export.
void log_control(const char *format, ...) __attribute__((format(printf, 1, 2)));

// As log_error and log_debug, for formatted text from the server itself. Warnings go where errors
// go.
void log_error_text(const std::string &text);
void log_warning_text(const std::string &text);
void log_debug_text(const std::string &text);

// About a connection that this thread need not serve. `whose`: such as "memory[3]: ". `target`: its
// server's, or nullptr.
void log_warning_of(const std::string &whose, const std::string &text, LogTarget *target);
void log_info_of(const std::string &whose, const std::string &text, LogTarget *target);
// Always to a target; otherwise only if the log is verbose.
void log_debug_of(const std::string &whose, const std::string &text, LogTarget *target);

} // namespace asyncnbd::host
