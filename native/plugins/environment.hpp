// A copy of the environment. A program may set a variable of process.env at any time, which is not
// safe while another thread reads one. So a plugin copies all of them in config_complete, on the
// thread that may set them, and reads only the copy from then on.
#ifndef ASYNCNBD_ENVIRONMENT_HPP
#define ASYNCNBD_ENVIRONMENT_HPP

#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

class Environment {
public:
  static Environment copied() {
    Environment copy;
    for (char **one = environ; one != nullptr && *one != nullptr; one++)
      copy.variables_.emplace_back(*one);
    return copy;
  }

  /// "" if it is not set.
  std::string value_of(std::string_view name) const {
    for (const std::string &one : variables_)
      if (one.size() > name.size() && one[name.size()] == '=' && one.starts_with(name))
        return one.substr(name.size() + 1);
    return "";
  }

  /// The value of the first that is set and not empty, or "".
  template <typename... Names> std::string first_of(Names... names) const {
    for (const std::string_view name : {std::string_view(names)...})
      if (std::string found = value_of(name); !found.empty())
        return found;
    return "";
  }

  /// "NAME=VALUE"
  const std::vector<std::string> &variables() const { return variables_; }

private:
  std::vector<std::string> variables_;
};

#endif
