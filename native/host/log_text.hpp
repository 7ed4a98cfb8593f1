// Makes text safe for the log: without passwords in URLs, and without anything that looks like
// another line or controls a terminal.
#pragma once

#include <string>
#include <string_view>

namespace asyncnbd::host {

// http://user:PASSWORD@host becomes http://user:***@host.
std::string without_passwords(std::string_view text);

// Control characters, and those that change the direction of text, become \n, \x1b, \u202e.
std::string escaped(std::string_view text);

// A message, which may have several lines. If it contains `client_word`, a text from a client, that
// is escaped completely; nullptr: none.
std::string loggable(std::string_view message, const char *client_word);

// The value of a parameter for the log: hides passwords, tokens and the like.
std::string loggable_value(std::string_view key, std::string_view value);

} // namespace asyncnbd::host
