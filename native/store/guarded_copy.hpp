// Copies to mapped memory of a file. The system raises a signal if it has no memory or disk space
// for that.
#pragma once

#include <cstddef>
#include <cstdint>

namespace asyncnbd::store {

// Handles SIGBUS for the rest of the process's life, and passes on signals that are not ours to the
// previous handler. It stays, because handlers that are removed in another order would lose each
// other. Any thread.
void handle_sigbus();

// False: an unknown part has not been copied. Call it only after handle_sigbus.
bool copy_guarded(uint8_t *to, const uint8_t *from, size_t length_bytes);

} // namespace asyncnbd::store
