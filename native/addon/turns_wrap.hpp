// NativeTurns and NativeTurn of src/addon/types.ts: turns at a plugin in JavaScript, for its
// requests and for JavaScript's own calls.
#pragma once

#include <memory>
#include <napi.h>

#include "backend/turn_queue.hpp"

namespace asyncnbd::addon {

class TurnsWrap : public Napi::ObjectWrap<TurnsWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit TurnsWrap(const Napi::CallbackInfo &info);

  const std::shared_ptr<backend::TurnQueue> &queue() const { return queue_; }

private:
  std::shared_ptr<backend::TurnQueue> queue_;
};

// Waits for a turn that JavaScript has asked for.
class JsTurn;

class TurnWrap : public Napi::ObjectWrap<TurnWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit TurnWrap(const Napi::CallbackInfo &info);
  ~TurnWrap() override;

private:
  Napi::Value begun(const Napi::CallbackInfo &info);
  Napi::Value end(const Napi::CallbackInfo &info);
  Napi::Value set_ref(const Napi::CallbackInfo &info);

  std::shared_ptr<JsTurn> turn_;
  Napi::Reference<Napi::Promise> begun_;
};

} // namespace asyncnbd::addon
