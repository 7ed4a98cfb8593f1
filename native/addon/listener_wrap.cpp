// See listener_wrap.hpp.
#include "addon/listener_wrap.hpp"

#include <cerrno>
#include <string>
#include <unistd.h>
#include <vector>

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

// listen(kind, ...words): { fds, port, tookOver }, or { error }.
Napi::Value listen_on(const Napi::CallbackInfo &info) {
  std::vector<std::string> words;
  for (size_t i = 1; i < info.Length(); i++)
    words.push_back(info[i].As<Napi::String>());
  const std::string kind = info[0].As<Napi::String>();
  return to_js(info.Env(), transport::listen_on(kind, words));
}

} // namespace

void define_listening_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("listen", Napi::Function::New(env, listen_on));
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
