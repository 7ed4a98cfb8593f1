// Knows which libraries are copies of a plugin's file, opened for a further instance, and which
// file that is: a plugin looks for its other files beside it.
#pragma once

#include <dlfcn.h>
#include <string>
#include <string_view>

namespace asyncnbd::host {

// `name` is the loader's name for the copy. Valid until it is forgotten or noted again.
void note_copy(const std::string &name, const std::string &original);
void forget_copy(const std::string &name);

// The path of the original, which stays valid for ever; nullptr if `name` is not a copy.
const char *original_of(std::string_view name);

// Moves a path below the folder of a copy, which the loader knows as `name`, to the folder of its
// original, as for the $ORIGIN in a RUNPATH.
std::string beside_original(std::string_view name, std::string path);

// Replaces dladdr and dladdr1 for plugins.
int locate(const void *address, Dl_info *info);
int locate_with(const void *address, Dl_info *info, void **extra, int flags);

} // namespace asyncnbd::host
