// See session_wrap.hpp.
#include "addon/session_wrap.hpp"

#include <optional>
#include <unistd.h>

#include "addon/js_queue.hpp"
#include "addon/plugin_wrap.hpp"
#include "addon/script_bridge_wrap.hpp"
#include "addon/server_wrap.hpp"
#include "backend/c_exports.hpp"

namespace asyncnbd::addon {

namespace {

Napi::Value capabilities_to_js(Napi::Env env, const backend::Capabilities &capabilities) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("sizeBytes", Napi::BigInt::New(env, capabilities.size_bytes));
  object.Set("canWrite", capabilities.can_write);
  object.Set("canFlush", capabilities.can_flush);
  object.Set("isRotational", capabilities.is_rotational);
  object.Set("canTrim", capabilities.can_trim);
  object.Set("canZero", capabilities.zero != backend::Support::none);
  object.Set("canFastZero", capabilities.can_fast_zero);
  object.Set("canFua", capabilities.fua != backend::Support::none);
  object.Set("canMultiConn", capabilities.can_multi_conn);
  object.Set("canCache", capabilities.cache != backend::Support::none);
  return object;
}

// Runs `call` on the crew and resolves with what `to_js` makes of its result.
template <typename Call, typename ToJs> Napi::Value ask(Napi::Env env, Call call, ToJs to_js) {
  using Result = decltype(call());
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  auto result = std::make_shared<std::optional<Result>>();
  run_blocking(
      env, [call, result] { *result = call(); },
      [deferred, result, to_js](Napi::Env env, bool ran) {
        if (ran)
          deferred->Resolve(to_js(env, **result));
        else
          deferred->Reject(Napi::Error::New(env, "no thread for a plugin call").Value());
      });
  return deferred->Promise();
}

} // namespace

Napi::Function SessionWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeSession",
                     {
                         InstanceMethod("read", &SessionWrap::read),
                         InstanceMethod("skip", &SessionWrap::skip),
                         InstanceMethod("write", &SessionWrap::write),
                         InstanceMethod("preconnect", &SessionWrap::preconnect),
                         InstanceMethod("listExports", &SessionWrap::list_exports),
                         InstanceMethod("openExport", &SessionWrap::open_export),
                         InstanceMethod("exportDescription", &SessionWrap::export_description),
                         InstanceMethod("blockSizes", &SessionWrap::block_sizes),
                         InstanceMethod("closeExport", &SessionWrap::close_export),
                         InstanceMethod("adoptExport", &SessionWrap::adopt_export),
                         InstanceMethod("start", &SessionWrap::start),
                         InstanceMethod("stop", &SessionWrap::stop),
                         InstanceMethod("abort", &SessionWrap::abort),
                     });
}

// new NativeSession(server, plugin, { inFd, outFd, number, readonly }); owns the descriptors.
// The plugin is a NativePlugin, or the name of one that runs in JavaScript.
SessionWrap::SessionWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  Napi::Env env = info.Env();
  ServerWrap *server = ServerWrap::Unwrap(info[0].As<Napi::Object>());
  Napi::Object options = info[2].As<Napi::Object>();
  in_fd_ = options.Get("inFd").As<Napi::Number>();
  out_fd_ = options.Get("outFd").As<Napi::Number>();

  core_ = std::make_shared<Core>();
  if (info[1].IsObject())
    core_->plugin = PluginWrap::Unwrap(info[1].As<Napi::Object>())->plugin();
  core_->budget = server->budget();
  core_->readonly = options.Get("readonly").As<Napi::Boolean>();
  core_->connection = std::make_shared<connection::Connection>(
      server->context(),
      core_->plugin ? core_->plugin->name() : info[1].As<Napi::String>().Utf8Value(),
      static_cast<uint64_t>(options.Get("number").As<Napi::Number>().Int64Value()));
  core_->connection->peer_fd = out_fd_;

  transport::set_nonblocking(in_fd_, true);
  transport::set_nonblocking(out_fd_, true);
  io_ = std::make_unique<transport::HandshakeIo>(in_fd_, out_fd_);
  in_poll_ = std::make_unique<FdPoll>(env, in_fd_, [this] { advance_io(); });
  bool ok = in_poll_->ok();
  if (out_fd_ != in_fd_) {
    out_poll_ = std::make_unique<FdPoll>(env, out_fd_, [this] { advance_io(); });
    ok = ok && out_poll_->ok();
  }
  if (!ok)
    Napi::Error::New(env, "a client's stream must be a socket or a pipe")
        .ThrowAsJavaScriptException();
}

SessionWrap::~SessionWrap() {
  stop_polling();
  close_fds();
}

// ---- bytes of the handshake ------------------------------------------------------------------

Napi::Value SessionWrap::read(const Napi::CallbackInfo &info) {
  io_->begin_read(info[0].As<Napi::Number>().Uint32Value());
  reading_ = true;
  return begin_io(info.Env());
}

Napi::Value SessionWrap::skip(const Napi::CallbackInfo &info) {
  io_->begin_skip(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
  reading_ = false;
  return begin_io(info.Env());
}

Napi::Value SessionWrap::write(const Napi::CallbackInfo &info) {
  auto bytes = info[0].As<Napi::Uint8Array>();
  io_->begin_write(std::vector<uint8_t>(bytes.Data(), bytes.Data() + bytes.ByteLength()));
  reading_ = false;
  return begin_io(info.Env());
}

Napi::Value SessionWrap::begin_io(Napi::Env env) {
  pending_io_ = std::make_unique<Napi::Promise::Deferred>(env);
  Napi::Value promise = pending_io_->Promise();
  if (in_fd_ == -1)
    settle_io(env.Null()); // aborted meanwhile
  else
    advance_io();
  return promise;
}

// Settles with the bytes read, true for a skip or a write, null once the client has gone.
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
  case transport::Progress::ended:
  case transport::Progress::failed:
    settle_io(env.Null());
    return;
  case transport::Progress::done:
    break;
  }
  if (!reading_) {
    settle_io(Napi::Boolean::New(env, true));
    return;
  }
  std::vector<uint8_t> data = io_->take_data();
  settle_io(Napi::Buffer<uint8_t>::Copy(env, data.data(), data.size()));
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
  if (out_fd_ != in_fd_)
    ::close(out_fd_);
  ::close(in_fd_);
  in_fd_ = out_fd_ = -1;
  // A plugin call may still ask for its peer, by a number that soon means someone else.
  core_->connection->peer_fd = -1;
}

// ---- calls of the plugin ---------------------------------------------------------------------

Napi::Value SessionWrap::preconnect(const Napi::CallbackInfo &info) {
  return ask(
      info.Env(),
      [core = core_] {
        return backend::preconnect(*core->plugin, *core->connection, core->readonly);
      },
      [](Napi::Env env, bool welcome) { return Napi::Boolean::New(env, welcome); });
}

Napi::Value SessionWrap::list_exports(const Napi::CallbackInfo &info) {
  return ask(
      info.Env(),
      [core = core_] {
        return backend::list_exports(*core->plugin, *core->connection, core->readonly);
      },
      [](Napi::Env env, const std::optional<std::vector<backend::ExportEntry>> &entries) {
        if (!entries)
          return env.Null();
        Napi::Array list = Napi::Array::New(env, entries->size());
        for (size_t i = 0; i < entries->size(); i++) {
          Napi::Object entry = Napi::Object::New(env);
          entry.Set("name", (*entries)[i].name);
          entry.Set("description", (*entries)[i].description);
          list.Set(static_cast<uint32_t>(i), entry);
        }
        return Napi::Value(list);
      });
}

// openExport(name): { name, …capabilities }, null if it cannot be opened.
Napi::Value SessionWrap::open_export(const Napi::CallbackInfo &info) {
  return ask(
      info.Env(),
      [core = core_,
       name = info[0].As<Napi::String>().Utf8Value()]() -> std::optional<std::string> {
        connection::Connection &context = *core->connection;
        std::optional<std::string> canonical = name;
        if (name.empty())
          canonical = backend::default_export(*core->plugin, context, core->readonly);
        if (!canonical)
          return std::nullopt;
        context.export_name = context.interns.add(*canonical);
        auto opened = backend::CBackend::open(*core->plugin, context, core->readonly);
        core->c_backend = opened.get();
        core->backend = std::move(opened);
        if (core->backend == nullptr)
          return std::nullopt;
        return canonical;
      },
      [core = core_](Napi::Env env, const std::optional<std::string> &name) -> Napi::Value {
        if (!name)
          return env.Null();
        Napi::Object result =
            capabilities_to_js(env, core->backend->capabilities()).As<Napi::Object>();
        result.Set("name", *name);
        return result;
      });
}

Napi::Value SessionWrap::export_description(const Napi::CallbackInfo &info) {
  return ask(
      info.Env(), [core = core_] { return core->c_backend->description(); },
      [](Napi::Env env, const std::string &text) { return Napi::String::New(env, text); });
}

// blockSizes(): [minimum, preferred, maximum] in bytes, null if the plugin failed.
Napi::Value SessionWrap::block_sizes(const Napi::CallbackInfo &info) {
  return ask(
      info.Env(),
      [core = core_]() -> std::optional<backend::BlockSizes> {
        backend::BlockSizes sizes;
        if (!core->c_backend->block_sizes(&sizes))
          return std::nullopt;
        return sizes;
      },
      [](Napi::Env env, const std::optional<backend::BlockSizes> &sizes) -> Napi::Value {
        if (!sizes)
          return env.Null();
        Napi::Array array = Napi::Array::New(env, 3);
        array.Set(0u, sizes->minimum);
        array.Set(1u, sizes->preferred);
        array.Set(2u, sizes->maximum);
        return array;
      });
}

Napi::Value SessionWrap::close_export(const Napi::CallbackInfo &info) {
  return ask(
      info.Env(),
      [core = core_] {
        core->backend->close();
        core->backend.reset();
        core->connection->export_name = nullptr;
        return true;
      },
      [](Napi::Env env, bool) { return env.Undefined(); });
}

// ---- the transmission phase ------------------------------------------------------------------

// adoptExport(bridge, connection, sizeBytes): JavaScript has opened an export of its own.
Napi::Value SessionWrap::adopt_export(const Napi::CallbackInfo &info) {
  ScriptBridgeWrap *bridge = ScriptBridgeWrap::Unwrap(info[0].As<Napi::Object>());
  backend::Capabilities capabilities; // the rest was JavaScript's to tell the client
  capabilities.size_bytes = static_cast<uint64_t>(info[2].As<Napi::Number>().DoubleValue());
  core_->backend = std::make_unique<backend::ScriptBackend>(
      bridge->bridge(), info[1].As<Napi::Number>().Uint32Value(), capabilities);
  return info.Env().Undefined();
}

// start(transmissionFlags, { threads, spinUs, graceMs, maxInFlightBytes }): resolves when the
// connection has closed.
Napi::Value SessionWrap::start(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  Napi::Object options = info[1].As<Napi::Object>();
  auto number = [&options](const char *key) {
    return options.Get(key).As<Napi::Number>().Int64Value();
  };
  const connection::TransmissionSettings settings{
      static_cast<uint16_t>(info[0].As<Napi::Number>().Uint32Value()),
      static_cast<unsigned>(number("threads")),
      static_cast<unsigned>(number("spinUs")),
      std::chrono::milliseconds(number("graceMs")),
      static_cast<uint64_t>(number("maxInFlightBytes")),
      core_->budget};
  stop_polling();

  connection::Connection &connection = *core_->connection;
  auto stream =
      std::make_unique<transport::Transport>(in_fd_, out_fd_, connection.server->stop_fd());
  in_fd_ = out_fd_ = -1;
  std::unique_ptr<backend::Backend> backend = std::move(core_->backend);
  std::shared_ptr<JsQueue> queue = JsQueue::of(env);
  queue->hold();
  started_ = connection.start(&stream, &backend, settings, [queue, deferred] {
    queue->post([queue, deferred](Napi::Env env) {
      queue->release();
      deferred->Resolve(env.Undefined());
    });
  });
  if (!started_) {
    queue->release();
    backend->close();
    deferred->Reject(
        Napi::Error::New(env, "no thread or descriptor left to serve the client").Value());
  }
  return deferred->Promise();
}

Napi::Value SessionWrap::stop(const Napi::CallbackInfo &info) {
  if (started_)
    core_->connection->stop();
  return info.Env().Undefined();
}

// Ends a handshake or a transmission at once. A pending read, skip or write settles with null.
Napi::Value SessionWrap::abort(const Napi::CallbackInfo &info) {
  if (started_) {
    core_->connection->abort();
    return info.Env().Undefined();
  }
  stop_polling();
  close_fds();
  if (pending_io_)
    settle_io(info.Env().Null());
  return info.Env().Undefined();
}

} // namespace asyncnbd::addon
