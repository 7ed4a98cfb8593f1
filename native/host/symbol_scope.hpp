// Decides whether a plugin's calls reach the process's functions or its own libraries', by what the
// process has loaded and what the plugin needs.
#pragma once

#include <string>
#include <vector>

#include "host/elf.hpp"

namespace asyncnbd::host {

struct SymbolScope {
  // True: the plugin's own libraries come first (RTLD_DEEPBIND), not the process's.
  bool own_first;
  std::string reason; // why not, to follow "because"
};

// Whether it calls a sanitizer's runtime that is not loaded, and that would end the process if it
// came with the plugin.
bool is_sanitizer_missing(const ElfFacts &facts);

SymbolScope scope_for(const ElfFacts &facts);

// Files that the loader has mapped, in its order; the program itself is "".
std::vector<std::string> loaded_objects();

} // namespace asyncnbd::host
