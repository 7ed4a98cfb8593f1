// Runs shell commands, and waits for them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace asyncnbd::filters {

// Which shell: bash if it exists, because lists are passed as its arrays; or that of system(3).
enum class Shell { bash_if_any, standard };

// The environment of commands. It is copied when a filter is made, on JavaScript's thread: that
// thread may set a variable at any time, which is not safe while another one reads them.
class ShellEnvironment {
public:
  static ShellEnvironment copied();
  // Ends with nullptr.
  std::vector<char *> pointers() const;

private:
  std::vector<std::string> variables_; // NAME=VALUE
};

// Returns the wait status, as from waitpid; -1: it could not be started, and `*failure` says why.
// Signals have their defaults. Blocks.
int run_shell(Shell shell, const std::string &commands, const ShellEnvironment &environment,
              std::string *failure);

// The same; appends standard output to `*output`, up to `most_bytes`.
int run_shell(Shell shell, const std::string &commands, const ShellEnvironment &environment,
              size_t most_bytes, std::string *output, std::string *failure);

// Quotes a text as one word.
std::string shell_quoted(const std::string &text);

} // namespace asyncnbd::filters
