// See latencies_wrap.hpp.
#include "addon/latencies_wrap.hpp"

#include "addon/runtime.hpp"

namespace asyncnbd::addon {

using nbd::ExportLatencies;
using nbd::LatencyCounters;

Napi::Function LatenciesWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeLatencies",
                     {
                         InstanceMethod("of", &LatenciesWrap::of),
                         InstanceMethod("areOwn", &LatenciesWrap::are_own),
                     });
}

// new NativeLatencies(sharedAs)
LatenciesWrap::LatenciesWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  latencies_ =
      shared_latencies().join(info[0].As<Napi::String>(), std::make_shared<ExportLatencies>());
}

std::shared_ptr<LatencyCounters> LatenciesWrap::counters_of(const Napi::Value &value,
                                                            const Napi::Value &export_name) {
  if (!value.IsObject())
    return nullptr;
  return Unwrap(value.As<Napi::Object>())->latencies_->of(export_name.As<Napi::String>());
}

// areOwn(exportName): whether this export has counters of its own.
Napi::Value LatenciesWrap::are_own(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), latencies_->are_own(info[0].As<Napi::String>()));
}

// of(exportName, command): { p50Us, p90Us, p99Us, p999Us, maxUs }, or undefined if there were none.
// For exportName undefined: those of all exports without counters of their own.
Napi::Value LatenciesWrap::of(const Napi::CallbackInfo &info) {
  const std::shared_ptr<LatencyCounters> counters =
      info[0].IsString() ? latencies_->of(info[0].As<Napi::String>()) : latencies_->of_rest();
  const uint32_t type = info[1].As<Napi::Number>().Uint32Value();
  if (counters == nullptr || type >= LatencyCounters::COMMANDS)
    return info.Env().Undefined();
  const base::Latencies latencies = counters->of(static_cast<uint16_t>(type));
  if (latencies.count() == 0)
    return info.Env().Undefined();
  Napi::Object result = Napi::Object::New(info.Env());
  auto set_us = [&result](const char *key, uint64_t ns) {
    result.Set(key, static_cast<double>(ns) / 1000);
  };
  set_us("p50Us", latencies.percentile_ns(50));
  set_us("p90Us", latencies.percentile_ns(90));
  set_us("p99Us", latencies.percentile_ns(99));
  set_us("p999Us", latencies.percentile_ns(99.9));
  set_us("maxUs", latencies.longest_ns);
  return result;
}

} // namespace asyncnbd::addon
