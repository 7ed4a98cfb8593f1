// See counters_wrap.hpp.
#include "addon/counters_wrap.hpp"

#include <string>

#include "addon/runtime.hpp"

namespace asyncnbd::addon {

namespace {

// Distinguishes objects of this class from others that users may pass by mistake.
constexpr napi_type_tag TAG{0x6d8f0a2b51c94e37, 0x9a47e1d3c05b28f6};

} // namespace

Napi::Function CountersWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeCounters", {InstanceMethod("of", &CountersWrap::of)});
}

// new NativeCounters(sharedAs)
CountersWrap::CountersWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  info.This().As<Napi::Object>().TypeTag(&TAG);
  counters_ = shared_counters().join(info[0].As<Napi::String>(),
                                     std::make_shared<filters::RequestCounters>());
}

CountersWrap *CountersWrap::of_value(const Napi::Value &value) {
  const bool is_one = value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&TAG);
  return is_one ? Unwrap(value.As<Napi::Object>()) : nullptr;
}

// of(command): { requests, failures, bytes, meanMs, p50Ms, p99Ms, maxMs }
Napi::Value CountersWrap::of(const Napi::CallbackInfo &info) {
  const uint32_t type = info[0].As<Napi::Number>().Uint32Value();
  Napi::Object result = Napi::Object::New(info.Env());
  if (type >= filters::RequestCounters::KINDS)
    return result;
  const filters::KindCounts counts = counters_->of(static_cast<uint16_t>(type));
  auto set = [&result](const char *key, uint64_t number) {
    result.Set(key, static_cast<double>(number));
  };
  auto set_ms = [&result](const char *key, double ns) { result.Set(key, ns / 1e6); };
  set("requests", counts.requests());
  set("failures", counts.failed);
  set("bytes", counts.bytes);
  const auto all_ns = static_cast<double>(counts.done_ns + counts.failed_ns);
  set_ms("meanMs", counts.requests() == 0 ? 0 : all_ns / static_cast<double>(counts.requests()));
  set_ms("p50Ms", static_cast<double>(counts.latencies.percentile_ns(50)));
  set_ms("p99Ms", static_cast<double>(counts.latencies.percentile_ns(99)));
  set_ms("maxMs", static_cast<double>(counts.latencies.longest_ns));
  return result;
}

} // namespace asyncnbd::addon
