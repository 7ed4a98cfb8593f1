// Copies to memory of a file, where the system may have none for it: it says so by a signal.
#pragma once

#include <cstddef>
#include <cstdint>

namespace asyncnbd::store {

// From now on SIGBUS is ours, which goes on to whose it was before. For the rest of the process:
// handlers that come and go would lose each other. Any thread.
void handle_sigbus();

// False: a part of it, nobody knows which, has not been copied. Only once SIGBUS is handled.
bool copy_guarded(uint8_t *to, const uint8_t *from, size_t length_bytes);

} // namespace asyncnbd::store
