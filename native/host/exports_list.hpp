// The list that a plugin's list_exports fills in.
#pragma once

#include <optional>
#include <string>
#include <vector>

struct nbdkit_exports {
  struct Entry {
    std::string name;
    std::optional<std::string> description;
    bool is_default = false; // its name is the answer of default_export; `name` is unused
  };
  std::vector<Entry> entries;
};
