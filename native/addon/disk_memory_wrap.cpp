// See disk_memory_wrap.hpp.
#include "addon/disk_memory_wrap.hpp"

namespace asyncnbd::addon {

Napi::Function DiskMemoryWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeDiskMemory", {InstanceMethod("buffer", &DiskMemoryWrap::buffer)});
}

// new NativeDiskMemory(sizeBytes); throws if the system does not have that much.
DiskMemoryWrap::DiskMemoryWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  memory_ =
      backend::DiskMemory::allocate(static_cast<size_t>(info[0].As<Napi::Number>().Int64Value()));
  if (memory_ == nullptr)
    Napi::RangeError::New(info.Env(), "the system has not so much memory")
        .ThrowAsJavaScriptException();
}

// buffer(): all of it, as an ArrayBuffer that keeps it alive. To be called once.
Napi::Value DiskMemoryWrap::buffer(const Napi::CallbackInfo &info) {
  auto *keep = new std::shared_ptr<backend::DiskMemory>(memory_);
  return Napi::ArrayBuffer::New(
      info.Env(), memory_->data(), memory_->size_bytes(),
      [](Napi::Env, void *, std::shared_ptr<backend::DiskMemory> *kept) { delete kept; }, keep);
}

} // namespace asyncnbd::addon
