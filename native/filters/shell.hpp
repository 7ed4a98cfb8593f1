// Runs commands by a shell, and waits for them.
#pragma once

#include <cstddef>
#include <string>

namespace asyncnbd::filters {

// Which one. Bash where there is one, as lists come as its arrays; or what system(3) takes.
enum class Shell { bash_if_any, standard };

// Their exit status as waitpid has it; -1: it could not be started, and `*failure` says why.
// Signals are as at the start of a process. Blocks.
int run_shell(Shell shell, const std::string &commands, std::string *failure);

// The same; what they write to standard output is appended to `*output`, up to so many bytes.
int run_shell(Shell shell, const std::string &commands, size_t most_bytes, std::string *output,
              std::string *failure);

// A word that stands for itself.
std::string shell_quoted(const std::string &text);

} // namespace asyncnbd::filters
