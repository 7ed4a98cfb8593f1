// Knows which libraries are copies of a plugin's file, opened for a further instance, and of which
// file: what a plugin looks for beside itself is beside that.
#pragma once

#include <dlfcn.h>
#include <string>
#include <string_view>

namespace asyncnbd::host {

// `name` is the one that the loader has for the copy. Until it is forgotten, or noted anew.
void note_copy(const std::string &name, const std::string &original);
void forget_copy(const std::string &name);

// The path of the original, which stays valid for ever; nullptr if `name` is no copy's.
const char *original_of(std::string_view name);

// A path below the folder of the loader's `name` for a library, as for the $ORIGIN in a RUNPATH, is
// one below the folder of the original if it is a copy.
std::string beside_original(std::string_view name, std::string path);

// For plugins, instead of dladdr and dladdr1.
int locate(const void *address, Dl_info *info);
int locate_with(const void *address, Dl_info *info, void **extra, int flags);

} // namespace asyncnbd::host
