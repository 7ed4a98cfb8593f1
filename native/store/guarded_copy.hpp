// Copies to memory of a file, where the system may have none for it: it says so by a signal.
#pragma once

#include <cstddef>
#include <cstdint>

namespace asyncnbd::store {

// While one lives, SIGBUS is ours, and then whose it was before. Any thread.
class SigbusHandler {
public:
  SigbusHandler();
  ~SigbusHandler();
  SigbusHandler(const SigbusHandler &) = delete;
  SigbusHandler &operator=(const SigbusHandler &) = delete;
};

// False: a part of it, nobody knows which, has not been copied. Only while a SigbusHandler lives.
bool copy_guarded(uint8_t *to, const uint8_t *from, size_t length_bytes);

} // namespace asyncnbd::store
