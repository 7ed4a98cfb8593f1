// Opens libraries in the place of others, as if they had called dlopen themselves.
#pragma once

namespace asyncnbd::host {

// `caller`: an address in the library that wants it. The loader looks for a name without a slash in
// the directories of its caller's RUNPATH, and puts its caller's directory in the place of $ORIGIN.
void *open_as(const void *caller, const char *name, int flags);

} // namespace asyncnbd::host
