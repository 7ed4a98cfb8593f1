// See symbol_scope.hpp. node exports its own OpenSSL, zlib and others, so a plugin that uses the
// system's must find those first. But preloaded libraries must be found before everything else: one
// allocator cannot free another's memory, and AddressSanitizer ends processes that use the flag.
#include "host/symbol_scope.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <gnu/lib-names.h>
#include <link.h>
#include <string_view>

namespace asyncnbd::host {

namespace {

// Libraries of which node has no copies.
constexpr std::array<std::string_view, 11> SYSTEM_LIBRARIES = {
    "libc.so",    "libm.so",  "libpthread.so", "libdl.so", "librt.so",    "libgcc_s.so",
    "libutil.so", "ld-linux", "libstdc++.so",  "ld64.so",  "libatomic.so"};

std::string_view file_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1); // npos + 1 is 0
}

bool is_system_library(std::string_view name) {
  return std::any_of(
      SYSTEM_LIBRARIES.begin(), SYSTEM_LIBRARIES.end(),
      [name](std::string_view prefix) { return name.substr(0, prefix.size()) == prefix; });
}

// The program's symbol tables in memory, in which the loader looks up names.
struct ProgramSymbols {
  const uint32_t *hashes = nullptr; // DT_GNU_HASH: four words, a filter, buckets, chains
  const ElfW(Sym) *symbols = nullptr;
  const char *names = nullptr;

  // nullptr: no such symbol.
  const ElfW(Sym) * find(std::string_view name) const {
    if (hashes == nullptr || symbols == nullptr || names == nullptr || hashes[0] == 0)
      return nullptr;
    constexpr size_t FILTER_WORDS = sizeof(ElfW(Addr)) / sizeof(uint32_t);
    const uint32_t *buckets = hashes + 4 + size_t{hashes[2]} * FILTER_WORDS;
    const uint32_t *chains = buckets + hashes[0];
    uint32_t hash = 5381;
    for (const char c : name)
      hash = hash * 33 + static_cast<unsigned char>(c);
    const uint32_t first = hashes[1];
    for (uint32_t i = buckets[hash % hashes[0]]; i >= first; i++) {
      if ((chains[i - first] | 1) == (hash | 1) && name == names + symbols[i].st_name)
        return &symbols[i];
      if ((chains[i - first] & 1) != 0) // the chain's last
        break;
    }
    return nullptr;
  }
};

int read_program(dl_phdr_info *info, size_t, void *data) {
  auto &program = *static_cast<ProgramSymbols *>(data);
  for (unsigned i = 0; i < info->dlpi_phnum; i++) {
    if (info->dlpi_phdr[i].p_type != PT_DYNAMIC)
      continue;
    const uintptr_t at = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    for (auto *entry = reinterpret_cast<const ElfW(Dyn) *>(at); entry->d_tag != DT_NULL; entry++)
      if (entry->d_tag == DT_GNU_HASH)
        program.hashes = reinterpret_cast<const uint32_t *>(entry->d_un.d_ptr);
      else if (entry->d_tag == DT_SYMTAB)
        program.symbols = reinterpret_cast<const ElfW(Sym) *>(entry->d_un.d_ptr);
      else if (entry->d_tag == DT_STRTAB)
        program.names = reinterpret_cast<const char *>(entry->d_un.d_ptr);
  }
  return 1; // only the first object
}

bool is_stub_by_dladdr(const char *function) {
  Dl_info info;
  void *found = nullptr;
  if (dladdr1(dlsym(RTLD_DEFAULT, function), &info, &found, RTLD_DL_SYMENT) == 0)
    return false;
  const auto *symbol = static_cast<const ElfW(Sym) *>(found);
  return symbol != nullptr && symbol->st_shndx == SHN_UNDEF;
}

// In a program that is not position-independent, the address of a function that everybody sees may
// be a stub in the program's procedure linkage table. dladdr would tell, but reads all of node's
// 75,000 symbols.
bool has_stub(const char *function) {
  ProgramSymbols program;
  dl_iterate_phdr(read_program, &program);
  if (program.hashes == nullptr) // linked with only the older table
    return is_stub_by_dladdr(function);
  const ElfW(Sym) *symbol = program.find(function);
  return symbol != nullptr && symbol->st_shndx == SHN_UNDEF;
}

std::string file_of(const void *function) {
  Dl_info info;
  return dladdr(function, &info) == 0 ? "the program" : info.dli_fname;
}

// The file with the function that the program calls by this name; empty: none.
std::string provider_of(const char *function) {
  const void *found = dlsym(RTLD_DEFAULT, function);
  if (found == nullptr)
    return {};
  if (!has_stub(function))
    return file_of(found);
  for (const std::string &path : loaded_objects()) { // in the loader's search order
    void *object = path.empty() ? nullptr : dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
    const void *own = object == nullptr ? nullptr : dlsym(object, function);
    if (object != nullptr)
      dlclose(object);
    if (own != nullptr && file_of(own) == path)
      return path;
  }
  return {};
}

std::string sanitizer_runtime() {
  for (const char *function : SANITIZER_FUNCTIONS)
    if (std::string runtime = provider_of(function); !runtime.empty())
      return runtime;
  return {};
}

// Empty: memory comes from the C library, as a plugin expects.
std::string other_allocator() {
  for (const char *function : {"malloc", "free", "realloc", "posix_memalign"})
    if (std::string provider = provider_of(function); file_name(provider) != LIBC_SO)
      return provider;
  return {};
}

// The loader's list begins with the program, what was preloaded, and what the program is linked to.
std::string find_preloaded() {
  const auto linked = read_needed("/proc/self/exe");
  if (!linked)
    return {};
  for (const std::string &path : loaded_objects()) {
    const std::string_view name = file_name(path);
    if (name.empty() || name.substr(0, 5) == "linux") // the program; linux-vdso.so.1
      continue;
    if (std::find(linked->begin(), linked->end(), name) != linked->end() || is_system_library(name))
      return {};
    return path;
  }
  return {};
}

} // namespace

std::vector<std::string> loaded_objects() {
  std::vector<std::string> paths;
  dl_iterate_phdr(
      [](struct dl_phdr_info *info, size_t, void *list) {
        static_cast<std::vector<std::string> *>(list)->emplace_back(info->dlpi_name);
        return 0;
      },
      &paths);
  return paths;
}

bool is_sanitizer_missing(const ElfFacts &facts) {
  const char *options = getenv("ASAN_OPTIONS");
  const bool may_come_late =
      options != nullptr && strstr(options, "verify_asan_link_order=0") != nullptr;
  return !facts.sanitizer.empty() && !may_come_late && sanitizer_runtime().empty();
}

SymbolScope scope_for(const ElfFacts &facts) {
  if (std::string runtime = sanitizer_runtime(); !runtime.empty())
    return {false, runtime + " does not allow otherwise"};
  if (std::string allocator = other_allocator(); !allocator.empty())
    return {false, "memory is allocated by " + allocator};
  static const std::string preloaded = find_preloaded();
  if (!preloaded.empty() &&
      std::all_of(facts.needed.begin(), facts.needed.end(), is_system_library))
    return {false, preloaded + " was preloaded"};
  return {true, {}};
}

} // namespace asyncnbd::host
