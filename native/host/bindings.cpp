// See bindings.hpp. RTLD_DEEPBIND keeps a plugin's libraries from node's copies of OpenSSL, zlib
// and others. It causes four problems in the libraries that come with a plugin, which this solves:
// - Libraries that it opens itself. An interpreter opens extension modules with dlopen, and these
//   would find node's functions first. So the libraries get a dlopen that adds the flag, and looks
//   where the loader would look for its caller.
// - Its own path. A copy of a plugin must find files beside the original, so dladdr gives the
//   original's path.
// - Variables of which node's executable has a copy, as any executable has of those it uses
//   (environ, tzname, std::cout). All other code uses the copy, the C library too. With the flag, a
//   plugin is bound to the original, which nobody sets: its environ would not show a setenv.
// - Our own functions. If a program has two copies of this addon, a plugin finds the functions of
//   the first, which does not know the other's clients.
#include "host/bindings.hpp"

#include <cstdint>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include "base/mutex.hpp"
#include "host/caller_search.hpp"
#include "host/copies.hpp"

namespace asyncnbd::host {

namespace {

#if defined(__x86_64__)
constexpr uint32_t COPY = R_X86_64_COPY, GLOB_DAT = R_X86_64_GLOB_DAT,
                   JUMP_SLOT = R_X86_64_JUMP_SLOT, ABSOLUTE = R_X86_64_64;
#elif defined(__aarch64__)
constexpr uint32_t COPY = R_AARCH64_COPY, GLOB_DAT = R_AARCH64_GLOB_DAT,
                   JUMP_SLOT = R_AARCH64_JUMP_SLOT, ABSOLUTE = R_AARCH64_ABS64;
#else
#define UNKNOWN_PROCESSOR
#endif

#ifndef UNKNOWN_PROCESSOR

// One loaded file, as the loader describes it.
class Object {
public:
  explicit Object(const dl_phdr_info &info) : base_(info.dlpi_addr) {
    for (unsigned i = 0; i < info.dlpi_phnum; i++) {
      const ElfW(Phdr) &header = info.dlpi_phdr[i];
      if (header.p_type == PT_DYNAMIC)
        read_dynamic(reinterpret_cast<const ElfW(Dyn) *>(base_ + header.p_vaddr));
      if (header.p_type == PT_GNU_RELRO) {
        const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
        sealed_from_ = (base_ + header.p_vaddr) & ~(page - 1);
        sealed_to_ = (base_ + header.p_vaddr + header.p_memsz) & ~(page - 1);
      }
    }
  }

  // Calls visit(type, symbol, its name, place, addend) for each relocation that has a symbol. Give
  // one type if only that is wanted: node's symbols lie on many pages, which may not be in memory.
  static constexpr uint32_t ANY_TYPE = UINT32_MAX;
  template <typename Visit> void each_relocation(Visit visit, uint32_t wanted = ANY_TYPE) const {
    if (symbols_ == nullptr || names_ == nullptr)
      return;
    for (const auto &[table, bytes] : {data_, calls_})
      for (size_t i = 0; i < bytes / sizeof(ElfW(Rela)); i++) {
        if (wanted != ANY_TYPE && ELF64_R_TYPE(table[i].r_info) != wanted)
          continue;
        const ElfW(Sym) &symbol = symbols_[ELF64_R_SYM(table[i].r_info)];
        if (symbol.st_name != 0)
          visit(static_cast<uint32_t>(ELF64_R_TYPE(table[i].r_info)), symbol,
                names_ + symbol.st_name, base_ + table[i].r_offset, table[i].r_addend);
      }
  }

  // The loader has made bound relocations read-only: makes them writable, or read-only again.
  bool seal(bool sealed) const {
    return sealed_to_ <= sealed_from_ ||
           mprotect(reinterpret_cast<void *>(sealed_from_), sealed_to_ - sealed_from_,
                    sealed ? PROT_READ : PROT_READ | PROT_WRITE) == 0;
  }

private:
  using Table = std::pair<const ElfW(Rela) *, size_t>;

  void read_dynamic(const ElfW(Dyn) * entry) {
    bool calls_have_addends = true;
    for (; entry->d_tag != DT_NULL; entry++) {
      const uintptr_t at = entry->d_un.d_ptr;
      if (entry->d_tag == DT_SYMTAB)
        symbols_ = reinterpret_cast<const ElfW(Sym) *>(at);
      else if (entry->d_tag == DT_STRTAB)
        names_ = reinterpret_cast<const char *>(at);
      else if (entry->d_tag == DT_RELA)
        data_.first = reinterpret_cast<const ElfW(Rela) *>(at);
      else if (entry->d_tag == DT_RELASZ)
        data_.second = entry->d_un.d_val;
      else if (entry->d_tag == DT_JMPREL)
        calls_.first = reinterpret_cast<const ElfW(Rela) *>(at);
      else if (entry->d_tag == DT_PLTRELSZ)
        calls_.second = entry->d_un.d_val;
      else if (entry->d_tag == DT_PLTREL)
        calls_have_addends = entry->d_un.d_val == DT_RELA;
    }
    if (!calls_have_addends)
      calls_.second = 0;
  }

  uintptr_t base_;
  const ElfW(Sym) *symbols_ = nullptr;
  const char *names_ = nullptr;
  Table data_{nullptr, 0};
  Table calls_{nullptr, 0};
  uintptr_t sealed_from_ = 0;
  uintptr_t sealed_to_ = 0;
};

// The replacement for each name.
using Places = std::map<std::string, uintptr_t, std::less<>>;

enum class Task {
  note,   // note everything that is loaded: it needs no mending
  look,   // find which of our functions new objects want
  forget, // drop unloaded objects: another may later lie at the same address
  mend    // mend the new objects
};
using Names = std::set<std::string>;
Names scan_objects(Task task, const Places &own = {});

void *open_own_first(const char *path, int flags) {
  const void *caller = __builtin_return_address(0);
  const bool opens = path != nullptr && (flags & RTLD_NOLOAD) == 0;
  scan_objects(Task::forget);
  void *handle = open_as(caller, path, opens ? flags | RTLD_DEEPBIND : flags);
  if (handle != nullptr)
    mend_bindings();
  return handle;
}

// The copies have the C library's internal names; other names are aliases of the same variables.
void add_copies(const Object &program, Places *places) {
  program.each_relocation(
      [places](uint32_t, const ElfW(Sym) &, const char *name, uintptr_t at, int64_t) {
        places->emplace(name, at);
        if (std::string_view(name).substr(0, 2) == "__") {
          places->emplace(name + 1, at);
          places->emplace(name + 2, at);
        }
      },
      COPY);
}

bool is_own_name(std::string_view name) {
  return name.substr(0, 7) == "nbdkit_" || name.substr(0, 9) == "asyncnbd_";
}

void add_own_names(const Object &object, Names *names) {
  object.each_relocation(
      [names](uint32_t, const ElfW(Sym) & symbol, const char *name, uintptr_t, int64_t) {
        if (symbol.st_shndx == SHN_UNDEF && is_own_name(name))
          names->emplace(name);
      });
}

// The functions of this copy of the addon; none if the program itself has them, as in tests.
Places own_places(const Names &names) {
  Places places;
  Dl_info self;
  // Uses a function that nobody exports: even here, &nbdkit_error may be the other copy's.
  if (names.empty() || dladdr(reinterpret_cast<void *>(&open_own_first), &self) == 0)
    return places;
  void *handle = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  for (const std::string &name : names)
    if (void *at = handle == nullptr ? nullptr : dlsym(handle, name.c_str()))
      places.emplace(name, reinterpret_cast<uintptr_t>(at));
  if (handle != nullptr)
    dlclose(handle);
  return places;
}

// No other thread may open or close libraries meanwhile.
void mend(const Object &object, const Places &places) {
  bool open = false;
  object.each_relocation([&](uint32_t type, const ElfW(Sym) & symbol, const char *name,
                             uintptr_t at, int64_t addend) {
    if (symbol.st_shndx != SHN_UNDEF || (type != GLOB_DAT && type != JUMP_SLOT && type != ABSOLUTE))
      return;
    const auto place = places.find(std::string_view(name));
    if (place == places.end())
      return;
    auto *bound = reinterpret_cast<uintptr_t *>(at);
    const uintptr_t right = place->second + (type == ABSOLUTE ? static_cast<uintptr_t>(addend) : 0);
    if (*bound == right)
      return;
    open = open || object.seal(false);
    if (open)
      *bound = right;
  });
  if (open)
    object.seal(true);
}

struct Scan {
  Task task;
  std::set<std::pair<uintptr_t, std::string>> known;
  std::set<std::pair<uintptr_t, std::string>> present;
  Places places;
  bool has_program = false;
  Names wanted;
};

int look_at(dl_phdr_info *info, size_t, void *data) {
  Scan &scan = *static_cast<Scan *>(data);
  if (!scan.has_program) { // the first object is the program
    scan.has_program = true;
    add_copies(Object(*info), &scan.places);
    scan.places.emplace("dlopen", reinterpret_cast<uintptr_t>(&open_own_first));
    scan.places.emplace("dladdr", reinterpret_cast<uintptr_t>(&locate));
    scan.places.emplace("dladdr1", reinterpret_cast<uintptr_t>(&locate_with));
  }
  std::pair<uintptr_t, std::string> object(info->dlpi_addr, info->dlpi_name);
  const bool is_known = scan.known.count(object) != 0;
  if (scan.task == Task::look) {
    if (!is_known)
      add_own_names(Object(*info), &scan.wanted);
    return 0;
  }
  if (scan.task == Task::mend && !is_known)
    mend(Object(*info), scan.places);
  if (scan.task != Task::forget || is_known)
    scan.present.insert(std::move(object));
  return 0;
}

// Must not take the loader's main lock: a thread that has it may be waiting for ours.
Names scan_objects(Task task, const Places &own) {
  // Libraries may be opened while the process ends.
  static auto *mutex = new base::Mutex<base::LockRank::bindings>;
  static auto *scan = new Scan;
  std::lock_guard lock(*mutex);
  scan->task = task;
  scan->places.insert(own.begin(), own.end());
  dl_iterate_phdr(look_at, scan);
  if (task != Task::look)
    scan->known = std::exchange(scan->present, {});
  return std::exchange(scan->wanted, {});
}

} // namespace

void note_loaded_objects() {
  scan_objects(Task::note);
}

void mend_bindings() {
  scan_objects(Task::mend, own_places(scan_objects(Task::look)));
}

#else

} // namespace

void note_loaded_objects() {}
void mend_bindings() {}

#endif

} // namespace asyncnbd::host
