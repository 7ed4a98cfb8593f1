// Opens libraries on behalf of other libraries, as if these had called dlopen themselves.
#pragma once

namespace asyncnbd::host {

// `caller`: an address in the calling library. The loader looks for a name without a slash in the
// directories of its caller's RUNPATH, and replaces $ORIGIN by its caller's directory.
void *open_as(const void *caller, const char *name, int flags);

} // namespace asyncnbd::host
