// NativeServer of src/addon/types.ts: the state that the sessions and connections of one server
// share.
#pragma once

#include <memory>
#include <napi.h>

#include "addon/js_queue.hpp"
#include "base/memory_budget.hpp"
#include "host/context.hpp"

namespace asyncnbd::addon {

class ServerWrap : public Napi::ObjectWrap<ServerWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit ServerWrap(const Napi::CallbackInfo &info);

  const std::shared_ptr<host::ServerContext> &context() const { return context_; }
  const std::shared_ptr<base::MemoryBudget> &budget() const { return budget_; }
  // While a client opens what all share.
  const std::shared_ptr<LoopHold> &hold() const { return hold_; }

private:
  Napi::Value announce_stop(const Napi::CallbackInfo &info);
  Napi::Value set_ref(const Napi::CallbackInfo &info);
  Napi::Value release(const Napi::CallbackInfo &info);

  std::shared_ptr<Napi::FunctionReference> on_shutdown_;
  std::shared_ptr<host::ServerContext> context_;
  std::shared_ptr<base::MemoryBudget> budget_;
  std::shared_ptr<LoopHold> hold_;
};

} // namespace asyncnbd::addon
