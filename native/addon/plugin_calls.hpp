// JavaScript's calls to a plugin, and to the native filters in front of it, on behalf of one
// client. Each function resolves a promise with the answer of a call on a thread of the pool, where
// it may block.
#pragma once

#include <memory>
#include <napi.h>
#include <string>
#include <vector>

#include "addon/js_queue.hpp"
#include "backend/bottom.hpp"
#include "backend/c_backend.hpp"
#include "backend/chain.hpp"
#include "host/context.hpp"
#include "schedule/loop_poller.hpp"

namespace asyncnbd::addon {

// Outlives the JavaScript object it belongs to while calls run. One call at a time.
struct PluginClient {
  PluginClient() = default;
  // A call may return after the end of its JavaScript, with the last hold of this.
  ~PluginClient() {
    if (answers && hold && !hold->queue().may_drop_references())
      answers->SuppressDestruct();
  }
  PluginClient(const PluginClient &) = delete;
  PluginClient &operator=(const PluginClient &) = delete;

  std::shared_ptr<backend::CPlugin> plugin; // nullptr: the client's plugin is not in C
  // The client's context; or no client's, if all clients share what it opens.
  std::shared_ptr<host::CallContext> context;
  std::unique_ptr<backend::Bottom> bottom; // the C plugin as the bottom of the chain
  std::shared_ptr<backend::Chain> chain;   // nullptr: no native filters
  bool readonly = false;
  std::shared_ptr<LoopHold> hold{}; // the session's: whether its calls keep the event loop alive
  unsigned threads = 1;             // calls of the plugin at once, if it allows more than one
  // Who submits requests to the open export: its connection's leader, or JavaScript.
  backend::Submitter submitter = backend::Submitter::leader;
  std::unique_ptr<backend::Backend> backend; // the open export, behind the chain
  // Where its connection may be led: JavaScript's event loop, if JavaScript has opened the export
  // and nothing native is in front of it.
  std::shared_ptr<schedule::LoopPoller> loop{};
  // For a plugin in JavaScript; see script_questions.hpp. It keeps the object that owns this alive,
  // so it must be dropped when it has answered, or when the export is closed.
  std::shared_ptr<Napi::FunctionReference> answers;
};

using SharedPluginClient = std::shared_ptr<PluginClient>;

// If filters are to ask a plugin in JavaScript, the last arguments of the first four are a bridge
// and a function that answers for the plugin.
Napi::Value preconnect(const Napi::CallbackInfo &info, const SharedPluginClient &client);
Napi::Value list_exports(const Napi::CallbackInfo &info, const SharedPluginClient &client);
Napi::Value open_export(const Napi::CallbackInfo &info, const SharedPluginClient &client);
Napi::Value default_export(const Napi::CallbackInfo &info, const SharedPluginClient &client);
// adoptExport(bridge, connection, { name, disk, answer, and what script_questions.hpp describes },
// wanted): for a plugin in JavaScript, which has opened an export. Resolves like open_export. The
// bridge closes the export.
Napi::Value adopt_export(const Napi::CallbackInfo &info, const SharedPluginClient &client);
Napi::Value meta_contexts(Napi::Env env, const SharedPluginClient &client, const std::string &name);
Napi::Value close_export(Napi::Env env, const SharedPluginClient &client);

// A JavaScript object whose methods are these calls, on behalf of its client.
template <typename Wrap> class PluginCalls : public Napi::ObjectWrap<Wrap> {
public:
  using Napi::ObjectWrap<Wrap>::ObjectWrap;

protected:
  using Methods = std::vector<Napi::ClassPropertyDescriptor<Wrap>>;

  // The object's methods: `own`, and the calls.
  static Methods with_plugin_calls(Methods own) {
    using Self = PluginCalls;
    own.insert(own.end(), {
                              method("preconnect", &Self::preconnect),
                              method("listExports", &Self::list_exports),
                              method("defaultExport", &Self::default_export),
                              method("openExport", &Self::open_export),
                              method("adoptExport", &Self::adopt_export),
                              method("metaContexts", &Self::meta_contexts),
                              method("closeExport", &Self::close_export),
                          });
    return own;
  }

  virtual Napi::Value close_export(const Napi::CallbackInfo &info) {
    return addon::close_export(info.Env(), client_);
  }

  const SharedPluginClient client_ = std::make_shared<PluginClient>();

private:
  static auto method(const char *name,
                     Napi::Value (PluginCalls::*function)(const Napi::CallbackInfo &)) {
    return PluginCalls::InstanceMethod(
        name, static_cast<Napi::Value (Wrap::*)(const Napi::CallbackInfo &)>(function));
  }

  Napi::Value preconnect(const Napi::CallbackInfo &info) {
    return addon::preconnect(info, client_);
  }
  Napi::Value list_exports(const Napi::CallbackInfo &info) {
    return addon::list_exports(info, client_);
  }
  Napi::Value default_export(const Napi::CallbackInfo &info) {
    return addon::default_export(info, client_);
  }
  Napi::Value open_export(const Napi::CallbackInfo &info) {
    return addon::open_export(info, client_);
  }
  Napi::Value adopt_export(const Napi::CallbackInfo &info) {
    return addon::adopt_export(info, client_);
  }
  Napi::Value meta_contexts(const Napi::CallbackInfo &info) {
    return addon::meta_contexts(info.Env(), client_, info[0].As<Napi::String>());
  }
};

} // namespace asyncnbd::addon
