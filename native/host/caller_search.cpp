// See caller_search.hpp.
#include "host/caller_search.hpp"

#include <algorithm>
#include <climits>
#include <cstddef>
#include <dlfcn.h>
#include <link.h>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

#include "host/copies.hpp"

namespace asyncnbd::host {

namespace {

link_map *object_at(const void *address) {
  Dl_info info;
  link_map *object = nullptr;
  void **extra = reinterpret_cast<void **>(&object);
  return dladdr1(address, &info, extra, RTLD_DL_LINKMAP) == 0 ? nullptr : object;
}

// Where the loader looks for libraries that the object names, in this order.
std::vector<std::string> directories_of(link_map *object) {
  Dl_serinfo head;
  if (object == nullptr || dlinfo(object, RTLD_DI_SERINFOSIZE, &head) != 0)
    return {};
  std::vector<std::max_align_t> room(head.dls_size / sizeof(std::max_align_t) + 1);
  auto *list = reinterpret_cast<Dl_serinfo *>(room.data());
  list->dls_size = head.dls_size;
  list->dls_cnt = head.dls_cnt;
  if (dlinfo(object, RTLD_DI_SERINFO, list) != 0)
    return {};
  std::vector<std::string> directories;
  for (unsigned i = 0; i < list->dls_cnt; i++)
    directories.push_back(beside_original(object->l_name, list->dls_serpath[i].dls_name));
  return directories;
}

// Without the directories at the end in which the loader looks for us too.
std::vector<std::string> callers_own(link_map *caller) {
  const std::vector<std::string> ours =
      directories_of(object_at(reinterpret_cast<const void *>(&open_as)));
  std::vector<std::string> directories = directories_of(caller);
  while (!directories.empty() &&
         std::find(ours.begin(), ours.end(), directories.back()) != ours.end())
    directories.pop_back();
  return directories;
}

std::string with_origin(link_map *caller, std::string name) {
  std::vector<char> origin(PATH_MAX);
  for (const std::string_view token : {"$ORIGIN", "${ORIGIN}"})
    if (const size_t at = name.find(token); at != std::string::npos)
      if (caller != nullptr && dlinfo(caller, RTLD_DI_ORIGIN, origin.data()) == 0)
        name.replace(at, token.size(), beside_original(caller->l_name, origin.data()));
  return name;
}

bool is_loaded(const char *name) {
  void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
  if (handle != nullptr)
    dlclose(handle);
  return handle != nullptr;
}

} // namespace

void *open_as(const void *caller, const char *name, int flags) {
  const std::string_view wanted = name == nullptr ? "" : name;
  if (wanted.find('$') != std::string_view::npos)
    return dlopen(with_origin(object_at(caller), std::string(wanted)).c_str(), flags);
  if (wanted.empty() || wanted.find('/') != std::string_view::npos || is_loaded(name))
    return dlopen(name, flags);
  for (const std::string &directory : callers_own(object_at(caller))) {
    const std::string path = directory + "/" + name;
    if (access(path.c_str(), F_OK) != 0)
      continue;
    if (void *handle = dlopen(path.c_str(), flags))
      return handle; // otherwise it may be for another processor
  }
  return dlopen(name, flags);
}

} // namespace asyncnbd::host
