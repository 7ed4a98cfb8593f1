// One of nbdkit's filters as a backend, as another filter directly in front of it calls it.
#pragma once

#include "backend/backend.hpp"
#include "host/abi.hpp"

namespace asyncnbd::cplugin {

// Functions return 0 or -1, and then *err is an errno. Any thread, once it is prepared.
class FilterBackend : public backend::Backend {
public:
  virtual int pread(void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err) = 0;
  virtual int pwrite(const void *data, uint32_t count, uint64_t offset, uint32_t flags,
                     int *err) = 0;
  virtual int flush(uint32_t flags, int *err) = 0;
  virtual int trim(uint32_t count, uint64_t offset, uint32_t flags, int *err) = 0;
  virtual int zero(uint32_t count, uint64_t offset, uint32_t flags, int *err) = 0;
  virtual int extents(uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents *extents,
                      int *err) = 0;
  virtual int cache(uint32_t count, uint64_t offset, uint32_t flags, int *err) = 0;
};

} // namespace asyncnbd::cplugin
