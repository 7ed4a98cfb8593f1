// The common part of C plugins and nbdkit's filters for JavaScript's start-up code: open, load,
// cleanup, unload, and their properties.
#pragma once

#include <memory>
#include <napi.h>
#include <utility>
#include <vector>

#include "addon/own_process.hpp"
#include "backend/c_plugin.hpp"

namespace asyncnbd::addon {

// undefined for success.
Napi::Value failure_to_js(Napi::Env env, const backend::CPlugin::Failure &failure);
void set_if_any(Napi::Object object, const char *key, const char *text);

template <typename Wrap, typename Library> class LibraryWrap : public Napi::ObjectWrap<Wrap> {
protected:
  using Methods = std::vector<Napi::ClassPropertyDescriptor<Wrap>>;

  LibraryWrap(const Napi::CallbackInfo &info, std::shared_ptr<Library> library)
      : Napi::ObjectWrap<Wrap>(info), library_(std::move(library)) {}

  // The object's methods: `own`, and these.
  static Methods with_library_methods(Methods own) {
    own.insert(own.end(), {
                              method("open", &LibraryWrap::open),
                              method("setDebugFlag", &LibraryWrap::set_debug_flag),
                              method("load", &LibraryWrap::load),
                              method("afterFork", &LibraryWrap::after_fork),
                              method("cleanup", &LibraryWrap::cleanup),
                              method("unload", &LibraryWrap::unload),
                              accessor("threadModel", &LibraryWrap::thread_model),
                              accessor("isShutdownRequested", &LibraryWrap::is_shutdown_requested),
                          });
    return own;
  }

  // Sessions and chains share it, so that it lasts during their calls.
  const std::shared_ptr<Library> library_;

private:
  using Method = Napi::Value (LibraryWrap::*)(const Napi::CallbackInfo &);
  using MethodOfWrap = Napi::Value (Wrap::*)(const Napi::CallbackInfo &);

  static auto method(const char *name, Method function) {
    return LibraryWrap::InstanceMethod(name, static_cast<MethodOfWrap>(function));
  }
  static auto accessor(const char *name, Method function) {
    return LibraryWrap::InstanceAccessor(name, static_cast<MethodOfWrap>(function), nullptr);
  }

  Napi::Value open(const Napi::CallbackInfo &info) {
    share_with_children();
    return failure_to_js(info.Env(), library_->open());
  }
  Napi::Value set_debug_flag(const Napi::CallbackInfo &info) {
    const bool found =
        library_->set_debug_flag(info[0].As<Napi::String>(), info[1].As<Napi::Number>());
    return Napi::Boolean::New(info.Env(), found);
  }
  Napi::Value load(const Napi::CallbackInfo &info) {
    library_->load();
    return info.Env().Undefined();
  }
  Napi::Value after_fork(const Napi::CallbackInfo &info) {
    return failure_to_js(info.Env(), library_->after_fork());
  }
  // This and unload run on the thread that has loaded the library, as in nbdkit, because
  // interpreters are bound to their thread. They may wait for the plugin's threads.
  Napi::Value cleanup(const Napi::CallbackInfo &info) {
    library_->cleanup();
    return info.Env().Undefined();
  }
  Napi::Value unload(const Napi::CallbackInfo &info) {
    library_->unload();
    return info.Env().Undefined();
  }
  Napi::Value thread_model(const Napi::CallbackInfo &info) {
    return Napi::Number::New(info.Env(), static_cast<int>(library_->thread_model()));
  }
  Napi::Value is_shutdown_requested(const Napi::CallbackInfo &info) {
    return Napi::Boolean::New(info.Env(), library_->is_shutdown_requested());
  }
};

} // namespace asyncnbd::addon
