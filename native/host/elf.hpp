// What a shared object asks of the loader, read from its file before any of it runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace asyncnbd::host {

struct ElfFacts {
  std::vector<std::string> needed; // the names of the libraries it is linked to
  bool has_unique_symbols = false; // STB_GNU_UNIQUE: one in the whole process
  std::string sanitizer;           // the function of the runtime that it calls, such as __asan_init
};

// std::nullopt: not a shared object for this machine, or a broken one; the loader can tell why.
// Accepts any file, and reads only a few tables of limited size.
std::optional<ElfFacts> read_elf(const std::string &path);

// Only its `needed`, which takes less reading.
std::optional<std::vector<std::string>> read_needed(const std::string &path);

// The first functions that are called in sanitizers' runtimes.
constexpr const char *SANITIZER_FUNCTIONS[] = {"__asan_init", "__hwasan_init", "__msan_init",
                                               "__tsan_init"};

} // namespace asyncnbd::host
