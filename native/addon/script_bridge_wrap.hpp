// NativeScriptBridge of src/addon/types.ts: requests to plugins in this environment's JavaScript.
#pragma once

#include <memory>
#include <napi.h>

#include "addon/script_loop.hpp"
#include "addon/script_questions.hpp"
#include "backend/script_bridge.hpp"

namespace asyncnbd::addon {

class ScriptBridgeWrap : public Napi::ObjectWrap<ScriptBridgeWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit ScriptBridgeWrap(const Napi::CallbackInfo &info);
  ~ScriptBridgeWrap() override;

  const std::shared_ptr<backend::ScriptBridge> &bridge() const { return bridge_; }
  // Where connections of its exports may be led.
  const std::shared_ptr<schedule::LoopPoller> &loop() { return loop_->poller(); }
  // Functions that reopen exports which belong to no client.
  const std::shared_ptr<KeptFunctions> &kept() const { return kept_; }

private:
  Napi::Value exchange(const Napi::CallbackInfo &info);
  Napi::Value batch(const Napi::CallbackInfo &info);
  Napi::Value explain(const Napi::CallbackInfo &info);
  Napi::Value sparse(const Napi::CallbackInfo &info);
  Napi::Value question(const Napi::CallbackInfo &info);
  Napi::Value answer(const Napi::CallbackInfo &info);
  Napi::Value trim(const Napi::CallbackInfo &info);
  Napi::Value slab(const Napi::CallbackInfo &info);
  Napi::Value end_loop(const Napi::CallbackInfo &info);

  Napi::Value share(Napi::Env env, void *memory, size_t bytes);
  static void shut(void *wrap);

  std::shared_ptr<Napi::FunctionReference> on_wake_;
  std::unique_ptr<ScriptLoop> loop_;
  std::shared_ptr<backend::ScriptBridge> bridge_;
  const std::shared_ptr<KeptFunctions> kept_ = std::make_shared<KeptFunctions>();
};

} // namespace asyncnbd::addon
