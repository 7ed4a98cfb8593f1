// See latencies_wrap.hpp.
#include "addon/latencies_wrap.hpp"

#include "addon/runtime.hpp"

namespace asyncnbd::addon {

using connection::LatencyCounters;

Napi::Function LatenciesWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeLatencies", {InstanceMethod("of", &LatenciesWrap::of)});
}

// new NativeLatencies(sharedAs)
LatenciesWrap::LatenciesWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  counters_ =
      shared_latencies().join(info[0].As<Napi::String>(), std::make_shared<LatencyCounters>());
}

std::shared_ptr<LatencyCounters> LatenciesWrap::counters_of(const Napi::Value &value) {
  return value.IsObject() ? Unwrap(value.As<Napi::Object>())->counters_ : nullptr;
}

// of(command): { p50Us, p90Us, p99Us, p999Us, maxUs }, or undefined if there were none.
Napi::Value LatenciesWrap::of(const Napi::CallbackInfo &info) {
  const uint32_t type = info[0].As<Napi::Number>().Uint32Value();
  if (type >= LatencyCounters::COMMANDS)
    return info.Env().Undefined();
  const base::Latencies latencies = counters_->of(static_cast<uint16_t>(type));
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
