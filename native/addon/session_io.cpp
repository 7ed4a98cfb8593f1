// The bytes of a session's handshake, which TypeScript reads and writes: see session_wrap.hpp.
#include "addon/session_wrap.hpp"
#include "base/invariant.hpp"

#include <unistd.h>

#include "addon/runtime.hpp"

namespace asyncnbd::addon {

Napi::Value SessionWrap::read(const Napi::CallbackInfo &info) {
  io_->begin_read(info[0].As<Napi::Number>().Uint32Value());
  operation_ = Operation::read;
  return begin_io(info.Env());
}

Napi::Value SessionWrap::skip(const Napi::CallbackInfo &info) {
  io_->begin_skip(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
  operation_ = Operation::write;
  return begin_io(info.Env());
}

Napi::Value SessionWrap::write(const Napi::CallbackInfo &info) {
  auto bytes = info[0].As<Napi::Uint8Array>();
  io_->begin_write(std::vector<uint8_t>(bytes.Data(), bytes.Data() + bytes.ByteLength()));
  operation_ = Operation::write;
  return begin_io(info.Env());
}

// upgradeTls(tls): a number from loadTls.
Napi::Value SessionWrap::upgrade_tls(const Napi::CallbackInfo &info) {
  std::shared_ptr<transport::TlsContext> context =
      tls_contexts().find(info[0].As<Napi::Number>().Uint32Value());
  std::unique_ptr<transport::SecureStream> secure = context ? context->accept() : nullptr;
  if (!secure) {
    auto deferred = Napi::Promise::Deferred(info.Env());
    deferred.Resolve(Napi::String::New(info.Env(), "out of memory"));
    return deferred.Promise();
  }
  io_->begin_tls(std::move(secure));
  operation_ = Operation::tls;
  return begin_io(info.Env());
}

// Tells the plugin's context about TLS.
void SessionWrap::on_tls() {
  host::CallContext &context = *client_->context;
  context.tls = true;
  context.tls_peer_name = io_->secure()->peer_name();
  context.tls_issuer_name = io_->secure()->issuer_name();
}

Napi::Value SessionWrap::is_tls(const Napi::CallbackInfo &info) {
  return Napi::Boolean::New(info.Env(), client_->context && client_->context->tls);
}

Napi::Value SessionWrap::begin_io(Napi::Env env) {
  base::invariant(pending_io_ == nullptr, "a session reads or writes one thing at a time");
  pending_io_ = std::make_unique<Napi::Promise::Deferred>(env);
  Napi::Value promise = pending_io_->Promise();
  if (in_fd_ == -1)
    settle_io(env.Null()); // aborted meanwhile
  else
    advance_io();
  return promise;
}

// Settles with the bytes read; true for a skip, a write or TLS; null once the client has gone; or a
// message if TLS has failed.
void SessionWrap::advance_io() {
  if (!pending_io_)
    return;
  Napi::Env env = Env();
  switch (io_->advance()) {
  case transport::Progress::wants_input:
    in_poll_->start(UV_READABLE);
    return;
  case transport::Progress::wants_output:
    (out_poll_ ? out_poll_ : in_poll_)->start(UV_WRITABLE);
    return;
  case transport::Progress::failed:
    settle_io(operation_ == Operation::tls ? Napi::String::New(env, io_->secure()->error())
                                           : env.Null());
    return;
  case transport::Progress::ended:
    settle_io(operation_ == Operation::tls
                  ? Napi::String::New(env, "the client disconnected; it may not trust this "
                                           "server")
                  : env.Null());
    return;
  case transport::Progress::done:
    break;
  }
  if (operation_ == Operation::tls)
    on_tls();
  if (operation_ != Operation::read) {
    settle_io(Napi::Boolean::New(env, true));
    return;
  }
  std::vector<uint8_t> data = io_->take_data();
  settle_io(Napi::Buffer<uint8_t>::Copy(env, data.data(), data.size()));
}

// watchForEnd(onEnd or undefined): calls onEnd once the client has hung up, although nothing is
// read.
Napi::Value SessionWrap::watch_for_end(const Napi::CallbackInfo &info) {
  on_end_.Reset();
  if (!in_poll_)
    return info.Env().Undefined();
  in_poll_->stop();
  if (info[0].IsFunction()) {
    on_end_ = Napi::Persistent(info[0].As<Napi::Function>());
    in_poll_->start(UV_DISCONNECT);
  }
  return info.Env().Undefined();
}

void SessionWrap::on_input() {
  if (on_end_.IsEmpty()) {
    advance_io();
    return;
  }
  in_poll_->stop();
  Napi::FunctionReference on_end = std::move(on_end_);
  on_end.Call({});
}

void SessionWrap::settle_io(Napi::Value value) {
  if (in_poll_)
    in_poll_->stop();
  if (out_poll_)
    out_poll_->stop();
  std::unique_ptr<Napi::Promise::Deferred> settled = std::move(pending_io_);
  settled->Resolve(value);
}

void SessionWrap::stop_polling() {
  in_poll_.reset();
  out_poll_.reset();
}

void SessionWrap::close_fds() {
  if (in_fd_ == -1)
    return;
  // A plugin call may still ask for its peer, and the descriptor's number may soon be another
  // client's.
  client_->context->peer_fd = -1;
  if (out_fd_ != in_fd_)
    ::close(out_fd_);
  ::close(in_fd_);
  in_fd_ = out_fd_ = -1;
}

} // namespace asyncnbd::addon
