// See session_wrap.hpp.
#include "addon/session_wrap.hpp"

#include <unistd.h>

#include "addon/chain_wrap.hpp"
#include "addon/js_queue.hpp"
#include "addon/latencies_wrap.hpp"
#include "addon/plugin_wrap.hpp"
#include "addon/runtime.hpp"
#include "addon/server_wrap.hpp"
#include "backend/c_bottom.hpp"

namespace asyncnbd::addon {

namespace {

// The figures of each command, in the order of the commands.
Napi::Float64Array commands_to_js(Napi::Env env, const nbd::RequestCounters &counters) {
  const auto counts = counters.by_command();
  constexpr size_t FIGURES = sizeof counts[0] / sizeof(uint64_t);
  Napi::Float64Array numbers = Napi::Float64Array::New(env, counts.size() * FIGURES);
  size_t i = 0;
  for (const auto &[requests, failed, bytes] : counts)
    for (const uint64_t number : {requests, failed, bytes})
      numbers[i++] = static_cast<double>(number);
  return numbers;
}

Napi::Value counts_to_js(Napi::Env env, const nbd::Connection &connection) {
  const nbd::RequestCounters &counters = connection.counters();
  Napi::Object object = Napi::Object::New(env);
  auto set = [&object](const char *key, uint64_t value) {
    object.Set(key, static_cast<double>(value));
  };
  set("requests", counters.requests());
  set("failedRequests", counters.failed());
  set("readBytes", counters.read_bytes());
  set("writtenBytes", counters.written_bytes());
  set("inFlight", connection.in_flight());
  object.Set("commands", commands_to_js(env, counters));
  return object;
}

Napi::Object end_to_js(Napi::Env env, const nbd::Connection &connection) {
  Napi::Object end = counts_to_js(env, connection).As<Napi::Object>();
  const nbd::Failure &failure = connection.failure();
  if (failure.kind() != nullptr) {
    end.Set("reason", failure.kind());
    end.Set("failure", failure.reason());
  } else {
    end.Set("reason", connection.client().is_disconnected() ? "plugin" : "client");
  }
  return end;
}

} // namespace

Napi::Function SessionWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeSession",
                     with_plugin_calls({
                         InstanceMethod("enter", &SessionWrap::enter),
                         InstanceMethod("read", &SessionWrap::read),
                         InstanceMethod("skip", &SessionWrap::skip),
                         InstanceMethod("write", &SessionWrap::write),
                         InstanceMethod("upgradeTls", &SessionWrap::upgrade_tls),
                         InstanceAccessor<&SessionWrap::is_tls>("isTls"),
                         InstanceMethod("watchForEnd", &SessionWrap::watch_for_end),
                         InstanceMethod("start", &SessionWrap::start),
                         InstanceMethod("stop", &SessionWrap::stop),
                         InstanceMethod("counts", &SessionWrap::counts),
                         InstanceMethod("abort", &SessionWrap::abort),
                         InstanceMethod("setRef", &SessionWrap::set_ref),
                         InstanceMethod("logTrouble", &SessionWrap::log_trouble),
                         InstanceMethod("logEvent", &SessionWrap::log_event),
                     }));
}

// new NativeSession(server, { inFd, outFd, number, readonly, threads }); owns the descriptors.
SessionWrap::SessionWrap(const Napi::CallbackInfo &info)
    : PluginCalls(info), server_hold_(ServerWrap::Unwrap(info[0].As<Napi::Object>())->hold()) {
  Napi::Env env = info.Env();
  ServerWrap *server = ServerWrap::Unwrap(info[0].As<Napi::Object>());
  Napi::Object options = info[1].As<Napi::Object>();
  in_fd_ = options.Get("inFd").As<Napi::Number>();
  out_fd_ = options.Get("outFd").As<Napi::Number>();

  budget_ = server->budget();
  client_->readonly = options.Get("readonly").As<Napi::Boolean>();
  client_->threads = options.Get("threads").As<Napi::Number>().Uint32Value();
  client_context_ = std::make_shared<nbd::ClientContext>(
      server->context(), "session",
      static_cast<uint64_t>(options.Get("number").As<Napi::Number>().Int64Value()));
  client_context_->peer_fd = out_fd_;
  client_->context = client_context_;
  logged_ = {client_context_->plugin_name, client_context_->number, host::peer_of(out_fd_),
             server->context()->log()};

  transport::set_nonblocking(in_fd_, true);
  transport::set_nonblocking(out_fd_, true);
  hold_ = client_->hold = std::make_shared<LoopHold>(JsQueue::of(env));
  io_ = std::make_unique<transport::HandshakeIo>(in_fd_, out_fd_);
  in_poll_ = std::make_unique<FdPoll>(env, in_fd_, [this] { on_input(); });
  bool ok = in_poll_->ok();
  if (out_fd_ != in_fd_) {
    out_poll_ = std::make_unique<FdPoll>(env, out_fd_, [this] { advance_io(); });
    ok = ok && out_poll_->ok();
  }
  if (!ok)
    Napi::Error::New(env, "cannot wait for input of a client's stream")
        .ThrowAsJavaScriptException();
}

SessionWrap::~SessionWrap() {
  stop_polling();
  close_fds();
}

// enter(plugin, chain): sets the client's plugin, a NativePlugin or the name of one in JavaScript,
// and the number of the chain in front of it, if any.
Napi::Value SessionWrap::enter(const Napi::CallbackInfo &info) {
  host::CallContext &context = *client_->context;
  const bool is_native = info[0].IsObject();
  client_->bottom.reset();
  client_->plugin = is_native ? PluginWrap::Unwrap(info[0].As<Napi::Object>())->plugin() : nullptr;
  client_->chain = chain_of(info[1]);
  if (is_native)
    client_->bottom =
        std::make_unique<backend::CBottom>(client_->plugin, context, client_->threads);
  context.default_export.reset(); // it belongs to another plugin
  context.default_exports_in_front.clear();
  context.instance = is_native ? client_->plugin->instance() : nullptr;
  context.plugin_name =
      is_native ? client_->plugin->name() : info[0].As<Napi::String>().Utf8Value();
  logged_.name = context.plugin_name;
  return info.Env().Undefined();
}

// ---- the transmission phase ------------------------------------------------------------------

namespace {

wire::ReplyStyle style_of(const std::string &name) {
  if (name == "extended")
    return wire::ReplyStyle::extended;
  return name == "structured" ? wire::ReplyStyle::structured : wire::ReplyStyle::simple;
}

// [{ id, number }, …]
std::vector<nbd::MetaContext> contexts_of(const Napi::Array &list) {
  std::vector<nbd::MetaContext> contexts;
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::Object context = list.Get(i).As<Napi::Object>();
    contexts.push_back({context.Get("id").As<Napi::Number>().Uint32Value(),
                        context.Get("number").As<Napi::Number>().Uint32Value()});
  }
  return contexts;
}

// Closes the export on a thread that may wait, if one is available.
void refuse_start(Napi::Env env, std::shared_ptr<backend::Backend> backend,
                  const SharedPluginClient &client,
                  const std::shared_ptr<Napi::Promise::Deferred> &deferred) {
  run_blocking(
      env, [client, backend] { backend->close_unused(); },
      [client, backend, deferred](Napi::Env env, bool ran) {
        if (!ran)
          backend->close_unused();
        deferred->Reject(
            Napi::Error::New(env, "no thread or descriptor is left for the client").Value());
      },
      client->hold);
}

} // namespace

// start({ flags, replyStyle, contexts, blockBytes, maxPayloadBytes, shortcuts, latencies,
// latenciesOf, … }), and all of nbd::ClientLimits: resolves when the connection has closed.
Napi::Value SessionWrap::start(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  Napi::Object options = info[0].As<Napi::Object>();
  auto number = [&options](const char *key) {
    return options.Get(key).As<Napi::Number>().Int64Value();
  };
  const nbd::TransmissionSettings settings{
      static_cast<uint16_t>(number("flags")),
      nbd::ClientLimits::from(number),
      budget_,
      style_of(options.Get("replyStyle").As<Napi::String>()),
      contexts_of(options.Get("contexts").As<Napi::Array>()),
      static_cast<uint32_t>(number("blockBytes")),
      static_cast<uint32_t>(number("maxPayloadBytes")),
      options.Get("shortcuts").As<Napi::Boolean>(),
      LatenciesWrap::counters_of(options.Get("latencies"), options.Get("latenciesOf"))};
  stop_polling();

  auto stream = std::make_unique<transport::Transport>(resources().page_pipes, in_fd_, out_fd_,
                                                       client_context_->server->stop_fd(),
                                                       io_->take_secure());
  in_fd_ = out_fd_ = -1;
  std::shared_ptr<JsQueue> queue = JsQueue::of(env);
  hold_->begin();
  auto connection = std::make_shared<nbd::Connection>(
      resources(),
      nbd::Ends{std::move(client_context_), std::move(stream), std::move(client_->backend),
                std::move(client_->loop)},
      settings, [=, hold = hold_, client = client_](const auto &closed) {
        queue->post([=](Napi::Env env) {
          hold->end();
          client->context.reset(); // it must not wait for a garbage collection
          client->answers.reset();
          deferred->Resolve(end_to_js(env, *closed));
        });
      });
  connection_ = connection;
  started_ = connection->start();
  if (!started_) {
    client_->context->peer_fd = -1; // closed with the stream
    hold_->end();
    refuse_start(env, connection->take_backend(), client_, deferred);
  }
  return deferred->Promise();
}

// counts(): undefined before the start and after the connection's end.
Napi::Value SessionWrap::counts(const Napi::CallbackInfo &info) {
  const std::shared_ptr<nbd::Connection> connection = connection_.lock();
  return connection && started_ ? counts_to_js(info.Env(), *connection) : info.Env().Undefined();
}

// stop(graceMs)
Napi::Value SessionWrap::stop(const Napi::CallbackInfo &info) {
  if (const std::shared_ptr<nbd::Connection> connection = connection_.lock())
    connection->stop(std::chrono::milliseconds(info[0].As<Napi::Number>().Int64Value()));
  return info.Env().Undefined();
}

// setRef(isRef): whether this client keeps the event loop alive.
Napi::Value SessionWrap::set_ref(const Napi::CallbackInfo &info) {
  const bool is_ref = info[0].As<Napi::Boolean>();
  hold_->set_ref(is_ref);
  if (in_poll_)
    in_poll_->set_ref(is_ref);
  if (out_poll_)
    out_poll_->set_ref(is_ref);
  return info.Env().Undefined();
}

// logTrouble(what): "refused: …".
Napi::Value SessionWrap::log_trouble(const Napi::CallbackInfo &info) {
  host::log_trouble(logged_, info[0].As<Napi::String>());
  return info.Env().Undefined();
}

// logEvent(what): "connected".
Napi::Value SessionWrap::log_event(const Napi::CallbackInfo &info) {
  host::log_event(logged_, info[0].As<Napi::String>());
  return info.Env().Undefined();
}

// Ends a handshake or a transmission at once. A pending read, skip or write settles with null.
Napi::Value SessionWrap::abort(const Napi::CallbackInfo &info) {
  if (started_) {
    if (const std::shared_ptr<nbd::Connection> connection = connection_.lock())
      connection->abort();
    return info.Env().Undefined();
  }
  stop_polling();
  close_fds();
  if (client_->bottom) // a script may never answer
    client_->bottom->give_up_opening();
  for (const std::weak_ptr<PluginClient> &weak : others_)
    if (const SharedPluginClient other = weak.lock(); other && other->bottom)
      other->bottom->give_up_opening();
  client_->answers.reset();
  if (pending_io_)
    settle_io(info.Env().Null());
  return info.Env().Undefined();
}

} // namespace asyncnbd::addon
