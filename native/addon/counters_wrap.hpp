// NativeCounters of src/addon/types.ts: the counters of the stats filter, for JavaScript to read.
#pragma once

#include <memory>
#include <napi.h>

#include "filters/request_counters.hpp"

namespace asyncnbd::addon {

class CountersWrap : public Napi::ObjectWrap<CountersWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit CountersWrap(const Napi::CallbackInfo &info);
  // nullptr: the value is not a NativeCounters.
  static CountersWrap *of_value(const Napi::Value &value);

  const std::shared_ptr<filters::RequestCounters> &counters() const { return counters_; }

private:
  Napi::Value of(const Napi::CallbackInfo &info);

  std::shared_ptr<filters::RequestCounters> counters_;
};

} // namespace asyncnbd::addon
