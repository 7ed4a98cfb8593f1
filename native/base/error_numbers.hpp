// The system's numbers of errors, in words.
#pragma once

#include <string>

namespace asyncnbd::base {

// "Input/output error". Any thread.
std::string error_text(int error);

// "EIO"; "error 4711" for a number that has no name.
std::string error_name(int error);

// Of a name such as "EIO"; 0: it is none.
int error_number(const std::string &name);

} // namespace asyncnbd::base
