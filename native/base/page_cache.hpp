// What the system keeps of a file in memory.
#pragma once

#include <cstdint>

namespace asyncnbd::base {

// Whether all of this part of a file is in the page cache, or nearly: a page may be on its way.
// False as well if the system does not tell, as before Linux 6.5, or of a file that belongs to
// others.
bool is_cached(int fd, uint64_t offset, uint64_t length_bytes);

} // namespace asyncnbd::base
