// See listener_wrap.hpp.
#include "addon/listener_wrap.hpp"

#include <cerrno>
#include <unistd.h>

#include "transport/listen.hpp"

namespace asyncnbd::addon {

namespace {

// How many clients are accepted before the event loop gets a turn again.
constexpr int MAX_CLIENTS_A_TURN = 64;

Napi::Value to_js(Napi::Env env, const transport::Listeners &listeners) {
  Napi::Object result = Napi::Object::New(env);
  if (listeners.fds.empty()) {
    result.Set("error", listeners.error);
    return result;
  }
  Napi::Array fds = Napi::Array::New(env);
  for (size_t i = 0; i < listeners.fds.size(); i++)
    fds.Set(static_cast<uint32_t>(i), listeners.fds[i]);
  result.Set("fds", fds);
  result.Set("port", listeners.port);
  result.Set("tookOver", listeners.took_over);
  return result;
}

// These return { fds, port } or { error }.

Napi::Value listen_tcp(const Napi::CallbackInfo &info) {
  int family = info[2].As<Napi::Number>();
  return to_js(info.Env(),
               transport::listen_tcp(info[0].As<Napi::String>(), info[1].As<Napi::String>(),
                                     family == 4   ? transport::Family::ipv4
                                     : family == 6 ? transport::Family::ipv6
                                                   : transport::Family::any));
}

Napi::Value listen_unix(const Napi::CallbackInfo &info) {
  return to_js(info.Env(), transport::listen_unix(info[0].As<Napi::String>()));
}

Napi::Value listen_vsock(const Napi::CallbackInfo &info) {
  return to_js(info.Env(), transport::listen_vsock(info[0].As<Napi::Number>().Uint32Value()));
}

Napi::Value adopt_listeners(const Napi::CallbackInfo &info) {
  return to_js(info.Env(), transport::adopt_listeners(info[0].As<Napi::Number>()));
}

} // namespace

void define_listening_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("listenTcp", Napi::Function::New(env, listen_tcp));
  exports.Set("listenUnix", Napi::Function::New(env, listen_unix));
  exports.Set("listenVsock", Napi::Function::New(env, listen_vsock));
  exports.Set("adoptListeners", Napi::Function::New(env, adopt_listeners));
}

Napi::Function ListenerWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeListener",
                     {
                         InstanceMethod("resume", &ListenerWrap::resume),
                         InstanceMethod("pause", &ListenerWrap::pause),
                         InstanceMethod("close", &ListenerWrap::close),
                         InstanceMethod("setRef", &ListenerWrap::set_ref),
                     });
}

ListenerWrap::ListenerWrap(const Napi::CallbackInfo &info)
    : ObjectWrap(info), fd_(info[0].As<Napi::Number>()),
      on_client_(Napi::Persistent(info[1].As<Napi::Function>())) {
  poll_ = std::make_unique<FdPoll>(info.Env(), fd_, [this] { accept_waiting(); });
  if (!poll_->ok())
    Napi::Error::New(info.Env(), "cannot wait for clients on this descriptor")
        .ThrowAsJavaScriptException();
}

// onClient(fd, errno): fd -1 with the errno if clients cannot be accepted for now.
void ListenerWrap::accept_waiting() {
  Napi::Env env = Env();
  for (int i = 0; i < MAX_CLIENTS_A_TURN && accepting_; i++) {
    int fd = transport::accept_client(fd_);
    if (fd == -EAGAIN)
      return;
    if (fd == -EINTR || fd == -ECONNABORTED)
      continue;
    on_client_.Call(
        {Napi::Number::New(env, fd < 0 ? -1 : fd), Napi::Number::New(env, fd < 0 ? -fd : 0)});
    if (fd < 0)
      return;
  }
}

Napi::Value ListenerWrap::resume(const Napi::CallbackInfo &info) {
  accepting_ = poll_ != nullptr;
  if (accepting_)
    poll_->start(UV_READABLE);
  return info.Env().Undefined();
}

Napi::Value ListenerWrap::pause(const Napi::CallbackInfo &info) {
  accepting_ = false;
  if (poll_ != nullptr)
    poll_->stop();
  return info.Env().Undefined();
}

Napi::Value ListenerWrap::close(const Napi::CallbackInfo &info) {
  accepting_ = false;
  poll_.reset();
  if (fd_ != -1)
    ::close(fd_);
  fd_ = -1;
  return info.Env().Undefined();
}

// setRef(isRef): whether it keeps the event loop alive.
Napi::Value ListenerWrap::set_ref(const Napi::CallbackInfo &info) {
  if (poll_ != nullptr)
    poll_->set_ref(info[0].As<Napi::Boolean>());
  return info.Env().Undefined();
}

} // namespace asyncnbd::addon
