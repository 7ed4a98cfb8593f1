// Makes text fit for the log: no passwords of URLs, and nothing that could pass for another line or
// for a command to a terminal.
#pragma once

#include <string>
#include <string_view>

namespace asyncnbd::host {

// http://user:PASSWORD@host becomes http://user:***@host.
std::string without_passwords(std::string_view text);

// Control characters, and those that change the direction of text, become \n, \x1b, \u202e.
std::string escaped(std::string_view text);

// A message, which may have several lines. `client_word` may be in it as a client has sent it, and
// is escaped altogether; nullptr: there is none.
std::string loggable(std::string_view message, const char *client_word);

// What to tell of a parameter: nothing of passwords, tokens and the like.
std::string loggable_value(std::string_view key, std::string_view value);

} // namespace asyncnbd::host
