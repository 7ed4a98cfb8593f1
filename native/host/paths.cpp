// nbdkit_absolute_path and nbdkit_realpath.
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>

#include "host/abi.hpp"

extern "C" {

NBDKIT_DLL_PUBLIC char *nbdkit_absolute_path(const char *path) {
  if (path == nullptr || *path == '\0') {
    nbdkit_error("an empty path cannot be made absolute");
    return nullptr;
  }
  std::string absolute;
  if (*path != '/') {
    char *directory = get_current_dir_name();
    if (directory == nullptr) {
      nbdkit_error("%s: cannot get the working directory: %m", path);
      return nullptr;
    }
    absolute = std::string(directory) + "/";
    free(directory);
  }
  absolute += path;
  return strdup(absolute.c_str());
}

NBDKIT_DLL_PUBLIC char *nbdkit_realpath(const char *path) {
  if (path == nullptr || *path == '\0') {
    nbdkit_error("an empty path cannot be resolved");
    return nullptr;
  }
  char *resolved = realpath(path, nullptr);
  if (resolved == nullptr)
    nbdkit_error("cannot resolve the path %s: %m", path);
  return resolved;
}

} // extern "C"
