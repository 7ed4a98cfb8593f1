// See copies.hpp.
#include "host/copies.hpp"

#include <map>
#include <set>

#include "base/mutex.hpp"

namespace asyncnbd::host {

namespace {

// Never destroyed: libraries may be looked for while the process ends.
struct Copies {
  base::Mutex<base::LockRank::copies> mutex;
  std::set<std::string> originals; // never removed: a plugin may keep the pointer
  std::map<std::string, const char *, std::less<>> by_name;
};

Copies &copies() {
  static auto *all = new Copies;
  return *all;
}

std::string_view folder_of(std::string_view path) {
  return path.substr(0, path.rfind('/'));
}

int with_original(int result, Dl_info *info) {
  if (result != 0 && info->dli_fname != nullptr)
    if (const char *original = original_of(info->dli_fname))
      info->dli_fname = original;
  return result;
}

} // namespace

void note_copy(const std::string &name, const std::string &original) {
  Copies &all = copies();
  std::lock_guard lock(all.mutex);
  all.by_name[name] = all.originals.insert(original).first->c_str();
}

void forget_copy(const std::string &name) {
  Copies &all = copies();
  std::lock_guard lock(all.mutex);
  all.by_name.erase(name);
}

const char *original_of(std::string_view name) {
  Copies &all = copies();
  std::lock_guard lock(all.mutex);
  const auto found = all.by_name.find(name);
  return found == all.by_name.end() ? nullptr : found->second;
}

std::string beside_original(std::string_view name, std::string path) {
  const char *original = original_of(name);
  const std::string_view folder = folder_of(name);
  const bool is_below = path.compare(0, folder.size(), folder) == 0 &&
                        (path.size() == folder.size() || path[folder.size()] == '/');
  if (original != nullptr && is_below)
    path.replace(0, folder.size(), folder_of(original));
  return path;
}

int locate(const void *address, Dl_info *info) {
  return with_original(dladdr(address, info), info);
}

int locate_with(const void *address, Dl_info *info, void **extra, int flags) {
  return with_original(dladdr1(address, info, extra, flags), info);
}

} // namespace asyncnbd::host
