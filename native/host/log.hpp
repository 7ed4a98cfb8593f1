// Log lines of the server and of plugins: "PROGRAM: [PLUGIN[N]: ]error: TEXT", as nbdkit prints
// them, because people search for these lines. What is in a text that others have written is made
// harmless (log_text.hpp).
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

// Lines go on to where standard error is now, whatever happens to it, until log_configure.
void log_keep_stderr();

bool log_is_verbose();
LogSink log_sink();
int log_file(); // its descriptor

// Whether debug lines tell what clients open and ask of an export, and their requests, as they do
// until this is called: nbdkit's debug flags backend.controlpath and backend.datapath.
void log_choose_paths(bool control, bool data);
bool log_shows_requests();

// One line each, written at once; errno is kept. Any thread.
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
// As log_debug, of what clients open and ask of an export.
void log_control(const char *format, ...) __attribute__((format(printf, 1, 2)));

// As log_error and log_debug, for formatted text; from the server itself. Warnings go where
// errors go.
void log_error_text(const std::string &text);
void log_warning_text(const std::string &text);
void log_debug_text(const std::string &text);

// Of a connection that the thread need not serve: "memory[3]: ". `target`: of its server, or
// nullptr.
void log_warning_of(const std::string &whose, const std::string &text, LogTarget *target);
void log_info_of(const std::string &whose, const std::string &text, LogTarget *target);
// To a target always, else where the log is verbose.
void log_debug_of(const std::string &whose, const std::string &text, LogTarget *target);

} // namespace asyncnbd::host
