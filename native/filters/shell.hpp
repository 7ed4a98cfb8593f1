// Runs shell commands, and waits for them.
#pragma once

#include <cstddef>
#include <string>

namespace asyncnbd::filters {

// Which shell: bash if it exists, because lists are passed as its arrays; or that of system(3).
enum class Shell { bash_if_any, standard };

// Returns the wait status, as from waitpid; -1: it could not be started, and `*failure` says why.
// Signals have their defaults. Blocks.
int run_shell(Shell shell, const std::string &commands, std::string *failure);

// The same; appends standard output to `*output`, up to `most_bytes`.
int run_shell(Shell shell, const std::string &commands, size_t most_bytes, std::string *output,
              std::string *failure);

// Quotes a text as one word.
std::string shell_quoted(const std::string &text);

} // namespace asyncnbd::filters
