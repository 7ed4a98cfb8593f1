// What is read of shared objects before they are opened, whole and broken ones.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <dlfcn.h>
#include <fstream>
#include <iterator>
#include <ostream>
#include <random>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

#include "host/elf.hpp"
#include "host/symbol_scope.hpp"

using namespace asyncnbd::host;

namespace {

std::string library(const std::string &name) {
  for (const std::string &path : loaded_objects())
    if (path.find("/" + name) != std::string::npos)
      return path;
  return {};
}

std::vector<char> bytes_of(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A file with these bytes, for as long as it lives.
class MemoryFile {
public:
  explicit MemoryFile(const std::vector<char> &bytes) : fd_(memfd_create("test", MFD_CLOEXEC)) {
    REQUIRE(write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  ~MemoryFile() { close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

private:
  int fd_;
};

} // namespace

TEST_CASE("names of the libraries that a program is linked to") {
  const auto facts = read_elf("/proc/self/exe");
  REQUIRE(facts);
  CHECK(std::count(facts->needed.begin(), facts->needed.end(), "libc.so.6") == 1);
  CHECK(read_needed("/proc/self/exe") == facts->needed);
}

TEST_CASE("symbols that are one for the process are found, and their absence") {
  const auto cxx = read_elf(library("libstdc++.so"));
  REQUIRE(cxx);
  CHECK(cxx->has_unique_symbols);
  const auto c = read_elf(library("libc.so"));
  REQUIRE(c);
  CHECK_FALSE(c->has_unique_symbols);
  CHECK(c->sanitizer.empty());
}

TEST_CASE("a file that is no shared object is recognized") {
  CHECK_FALSE(read_elf("/nonexistent"));
  CHECK_FALSE(read_elf("/dev/null"));
  CHECK_FALSE(read_elf("/dev/zero"));
  CHECK_FALSE(read_elf("/"));
  CHECK_FALSE(read_elf("/proc/self/maps"));
}

TEST_CASE("a file that ends too early is refused") {
  const std::vector<char> whole = bytes_of(library("libgcc_s.so"));
  REQUIRE(read_elf(MemoryFile(whole).path()));
  for (size_t bytes = 0; bytes < 4096; bytes += 61) {
    const MemoryFile cut({whole.begin(), whole.begin() + static_cast<ptrdiff_t>(bytes)});
    CHECK_FALSE(read_elf(cut.path()));
  }
}

// Nothing is to be found out but that it returns: sanitizers see the rest.
TEST_CASE("a file with nonsense tables does not read forever") {
  const std::vector<char> whole = bytes_of(library("libgcc_s.so"));
  std::mt19937 random(1);
  size_t refused = 0;
  for (int round = 0; round < 2000; round++) {
    std::vector<char> broken = whole;
    // The headers, and what they lead to: half of the changes hit the first 1 KiB.
    const size_t end = round % 2 == 0 ? 1024 : broken.size();
    for (int i = 0; i < 8; i++)
      broken[random() % end] = static_cast<char>(random() % 4 == 0 ? 0xff : random());
    refused += read_elf(MemoryFile(broken).path()) ? 0 : 1;
  }
  CHECK(refused > 100);
}

TEST_CASE("a plugin's own libraries come first unless the process's must") {
  ElfFacts facts;
  facts.needed = {"libc.so.6", "libcurl.so.4"};
  const SymbolScope scope = scope_for(facts);
  // A build with sanitizers has their runtime, which allows nothing else.
  bool has_sanitizer = false;
  for (const char *function : SANITIZER_FUNCTIONS)
    has_sanitizer = has_sanitizer || dlsym(RTLD_DEFAULT, function) != nullptr;
  CHECK(scope.own_first != has_sanitizer);
  CHECK(scope.reason.empty() == scope.own_first);
  facts.sanitizer = "__asan_init";
  CHECK(is_sanitizer_missing(facts) != has_sanitizer);
}
