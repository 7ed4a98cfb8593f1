// See script_bridge_wrap.hpp.
#include "addon/script_bridge_wrap.hpp"

#include <algorithm>

#include "addon/js_queue.hpp"
#include "host/log_text.hpp"

namespace asyncnbd::addon {

using backend::ScriptBatch;
using backend::ScriptBridge;

Napi::Function ScriptBridgeWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeScriptBridge",
                     {
                         InstanceMethod("exchange", &ScriptBridgeWrap::exchange),
                         InstanceMethod("batch", &ScriptBridgeWrap::batch),
                         InstanceMethod("explain", &ScriptBridgeWrap::explain),
                         InstanceMethod("sparse", &ScriptBridgeWrap::sparse),
                         InstanceMethod("question", &ScriptBridgeWrap::question),
                         InstanceMethod("answer", &ScriptBridgeWrap::answer),
                         InstanceMethod("trim", &ScriptBridgeWrap::trim),
                         InstanceMethod("slab", &ScriptBridgeWrap::slab),
                         InstanceMethod("endLoop", &ScriptBridgeWrap::end_loop),
                     });
}

// new NativeScriptBridge(onWake)
ScriptBridgeWrap::ScriptBridgeWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  Napi::Env env = info.Env();
  on_wake_ =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[0].As<Napi::Function>()));
  // Connections may outlive this object, on threads where no reference may be dropped.
  std::weak_ptr<Napi::FunctionReference> callback = on_wake_;
  const auto give_turn = [callback] {
    if (auto function = callback.lock())
      function->Call({});
  };
  loop_ = std::make_unique<ScriptLoop>(env, give_turn);
  bridge_ =
      std::make_shared<ScriptBridge>([queue = JsQueue::of(env), give_turn, loop = loop_.get()] {
        if (!ScriptLoop::wake(loop))
          queue->post([give_turn](Napi::Env) { give_turn(); });
      });
  napi_add_env_cleanup_hook(env, &ScriptBridgeWrap::shut, this);
}

ScriptBridgeWrap::~ScriptBridgeWrap() {
  napi_remove_env_cleanup_hook(Env(), &ScriptBridgeWrap::shut, this);
  shut(this);
}

void ScriptBridgeWrap::shut(void *wrap) {
  auto *self = static_cast<ScriptBridgeWrap *>(wrap);
  self->bridge_->shut();
  self->loop_->close();
}

// exchange(completions, most): how many submissions are in the batch now.
Napi::Value ScriptBridgeWrap::exchange(const Napi::CallbackInfo &info) {
  const uint32_t count = bridge_->exchange(info[0].As<Napi::Number>().Uint32Value(),
                                           info[1].As<Napi::Number>().Uint32Value());
  return Napi::Number::New(info.Env(), count);
}

// explain(operation, text, offset or undefined)
Napi::Value ScriptBridgeWrap::explain(const Napi::CallbackInfo &info) {
  std::optional<uint64_t> offset;
  if (info[2].IsNumber())
    offset = static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value());
  bridge_->explain(info[0].As<Napi::Number>().Uint32Value(),
                   host::without_passwords(info[1].As<Napi::String>().Utf8Value()), offset);
  return info.Env().Undefined();
}

// sparse(operation, extents): `extents` is a Float64Array of lengths and flags by turns. Returns
// another, of the offsets and lengths of what is data; undefined if everything is.
Napi::Value ScriptBridgeWrap::sparse(const Napi::CallbackInfo &info) {
  auto numbers = info[1].As<Napi::Float64Array>();
  std::vector<backend::Extent> extents;
  for (size_t i = 0; i + 1 < numbers.ElementLength(); i += 2)
    extents.push_back({static_cast<uint64_t>(numbers[i]), static_cast<uint64_t>(numbers[i + 1])});
  const std::vector<backend::Run> runs =
      bridge_->sparse(info[0].As<Napi::Number>().Uint32Value(), extents);
  if (runs.empty())
    return info.Env().Undefined();
  std::vector<double> data;
  for (const backend::Run &run : runs)
    if (!run.is_hole)
      data.insert(data.end(),
                  {static_cast<double>(run.offset), static_cast<double>(run.length_bytes)});
  Napi::Float64Array result = Napi::Float64Array::New(info.Env(), data.size());
  std::copy(data.begin(), data.end(), result.Data());
  return result;
}

// question(operation): the contexts that a block status asks about.
Napi::Value ScriptBridgeWrap::question(const Napi::CallbackInfo &info) {
  const std::vector<uint32_t> contexts =
      bridge_->question(info[0].As<Napi::Number>().Uint32Value());
  Napi::Array list = Napi::Array::New(info.Env(), contexts.size());
  for (uint32_t i = 0; i < contexts.size(); i++)
    list.Set(i, contexts[i]);
  return list;
}

// answer(operation, numbers)
Napi::Value ScriptBridgeWrap::answer(const Napi::CallbackInfo &info) {
  auto numbers = info[1].As<Napi::Float64Array>();
  const bool ok = bridge_->answer(info[0].As<Napi::Number>().Uint32Value(), numbers.Data(),
                                  numbers.ElementLength());
  return Napi::Boolean::New(info.Env(), ok);
}

// trim()
Napi::Value ScriptBridgeWrap::trim(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), bridge_->trim());
}

// batch(): [submissions, completions] as ArrayBuffers.
Napi::Value ScriptBridgeWrap::batch(const Napi::CallbackInfo &info) {
  ScriptBatch &batch = bridge_->batch();
  Napi::Array result = Napi::Array::New(info.Env(), 2);
  result.Set(0u, share(info.Env(), batch.submissions.data(), sizeof batch.submissions));
  result.Set(1u, share(info.Env(), batch.completions.data(), sizeof batch.completions));
  return result;
}

// slab(slot): the memory around a slot, { buffer, firstSlot, slotBytes, slots }. Only once for each
// slab.
Napi::Value ScriptBridgeWrap::slab(const Napi::CallbackInfo &info) {
  const backend::SlotPool::Slab slab = bridge_->slab_of(info[0].As<Napi::Number>().Uint32Value());
  Napi::Object result = Napi::Object::New(info.Env());
  const size_t bytes = static_cast<size_t>(slab.slot_bytes) * slab.slots;
  result.Set("buffer", share(info.Env(), slab.data, bytes));
  result.Set("firstSlot", slab.first_slot);
  result.Set("slotBytes", slab.slot_bytes);
  result.Set("slots", slab.slots);
  return result;
}

// endLoop(): after the last connection.
Napi::Value ScriptBridgeWrap::end_loop(const Napi::CallbackInfo &info) {
  loop_->close();
  return info.Env().Undefined();
}

// Memory of the bridge's as an ArrayBuffer that keeps the bridge.
Napi::Value ScriptBridgeWrap::share(Napi::Env env, void *memory, size_t bytes) {
  auto *keep = new std::shared_ptr<ScriptBridge>(bridge_);
  return Napi::ArrayBuffer::New(
      env, memory, bytes,
      [](Napi::Env, void *, std::shared_ptr<ScriptBridge> *kept) { delete kept; }, keep);
}

} // namespace asyncnbd::addon
