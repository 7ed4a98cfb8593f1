// NativeDiskMemory of src/addon/types.ts: memory that a plugin in JavaScript serves as a disk.
#pragma once

#include <memory>
#include <napi.h>

#include "backend/disk_memory.hpp"

namespace asyncnbd::addon {

class DiskMemoryWrap : public Napi::ObjectWrap<DiskMemoryWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit DiskMemoryWrap(const Napi::CallbackInfo &info);

  const std::shared_ptr<backend::DiskMemory> &memory() const { return memory_; }

private:
  Napi::Value buffer(const Napi::CallbackInfo &info);

  std::shared_ptr<backend::DiskMemory> memory_;
};

} // namespace asyncnbd::addon
