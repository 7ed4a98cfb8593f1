// Copies to memory of a file, where the system may have none for it: it says so by a signal.
#pragma once

#include <cstddef>
#include <cstdint>

namespace asyncnbd::store {

// Handles SIGBUS for the rest of the process, and passes on what is not ours to the handler that
// was there before. It stays, because handlers that come and go would lose each other. Any thread.
void handle_sigbus();

// False: a part of it, nobody knows which, has not been copied. Only once SIGBUS is handled.
bool copy_guarded(uint8_t *to, const uint8_t *from, size_t length_bytes);

} // namespace asyncnbd::store
