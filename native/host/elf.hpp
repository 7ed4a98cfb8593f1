// What a shared object asks of the loader, read from its file before any of it runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace asyncnbd::host {

struct ElfFacts {
  std::vector<std::string> needed; // the names of the libraries it is linked to
  bool has_unique_symbols = false; // STB_GNU_UNIQUE: one for the process, whoever defines it
  std::string sanitizer;           // the runtime's function that it calls, such as __asan_init
};

// std::nullopt: it is no shared object of this machine's, or a broken one; the loader knows why.
// Takes any file and reads no more of it than a few tables of limited size.
std::optional<ElfFacts> read_elf(const std::string &path);

// Its `needed` alone, which takes less reading.
std::optional<std::vector<std::string>> read_needed(const std::string &path);

// Where the runtimes of sanitizers begin.
constexpr const char *SANITIZER_FUNCTIONS[] = {"__asan_init", "__hwasan_init", "__msan_init",
                                               "__tsan_init"};

} // namespace asyncnbd::host
