// See log_owner.hpp.
#include "host/log_owner.hpp"

#include <algorithm>
#include <dlfcn.h>
#include <link.h>
#include <mutex>
#include <optional>
#include <utility>

#include "base/mutex.hpp"

namespace asyncnbd::host {

namespace {

// Never destroyed: threads of plugins log while the process exits.
struct Owners {
  base::Mutex<base::LockRank::log_owners> mutex; // guards the list
  std::vector<const LogOwner *> list;
};

Owners &owners() {
  static auto *owners = new Owners;
  return *owners;
}

int find_range(dl_phdr_info *info, size_t, void *given) {
  auto &[base, range] = *static_cast<std::pair<uintptr_t, CodeRange> *>(given);
  if (info->dlpi_addr != base)
    return 0;
  for (unsigned i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) &header = info->dlpi_phdr[i];
    if (header.p_type == PT_LOAD)
      range.to = std::max(range.to, base + header.p_vaddr + header.p_memsz);
  }
  range.from = base;
  return 1;
}

} // namespace

LogOwner::LogOwner(CodeRange code, const std::shared_ptr<LogTarget> &log)
    : code_(code), has_log_(log != nullptr), log_(log) {
  Owners &all = owners();
  std::lock_guard lock(all.mutex);
  all.list.push_back(this);
}

LogOwner::~LogOwner() {
  Owners &all = owners();
  std::lock_guard lock(all.mutex);
  std::erase(all.list, this);
}

// Must not ask the loader: it may be waiting for this thread to end, with its lock held.
std::shared_ptr<LogTarget> log_of_code(const void *address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  Owners &all = owners();
  std::lock_guard lock(all.mutex);
  const auto only = [&all](auto belongs) {
    std::optional<std::shared_ptr<LogTarget>> found;
    for (const LogOwner *owner : all.list) {
      if (!belongs(*owner))
        continue;
      std::shared_ptr<LogTarget> log = owner->has_log_ ? owner->log_.lock() : nullptr;
      if (found && *found != log)
        return std::optional<std::shared_ptr<LogTarget>>();
      found = std::move(log);
    }
    return found;
  };
  if (const auto found = only(
          [at](const LogOwner &owner) { return at >= owner.code_.from && at < owner.code_.to; }))
    return *found;
  return only([](const LogOwner &owner) { return owner.code_.to == 0; }).value_or(nullptr);
}

CodeRange code_of(void *handle) {
  link_map *map = nullptr;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0)
    return {};
  std::pair<uintptr_t, CodeRange> found(map->l_addr, {});
  dl_iterate_phdr(&find_range, &found);
  return found.second;
}

} // namespace asyncnbd::host
