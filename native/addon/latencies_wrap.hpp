// NativeLatencies of src/addon/types.ts: how long requests to the exports of a server took.
#pragma once

#include <memory>
#include <napi.h>

#include "nbd/latency_counters.hpp"

namespace asyncnbd::addon {

class LatenciesWrap : public Napi::ObjectWrap<LatenciesWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit LatenciesWrap(const Napi::CallbackInfo &info);

  // From a NativeLatencies and an export; nullptr for undefined.
  static std::shared_ptr<nbd::LatencyCounters> counters_of(const Napi::Value &value,
                                                           const Napi::Value &export_name);

private:
  Napi::Value of(const Napi::CallbackInfo &info);
  Napi::Value are_own(const Napi::CallbackInfo &info);

  std::shared_ptr<nbd::ExportLatencies> latencies_;
};

} // namespace asyncnbd::addon
