// NativeSession of src/addon/types.ts: one client, from its handshake (bytes and plugin calls on
// behalf of TypeScript) to the end of its transmission phase.
#pragma once

#include <memory>
#include <napi.h>
#include <vector>

#include "addon/fd_poll.hpp"
#include "addon/js_queue.hpp"
#include "addon/plugin_calls.hpp"
#include "host/client_log.hpp"
#include "nbd/connection.hpp"
#include "transport/handshake_io.hpp"

namespace asyncnbd::addon {

// JavaScript asks for one thing at a time: every method that returns a promise must be awaited
// before the next is called, except stop and abort.
class SessionWrap : public PluginCalls<SessionWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit SessionWrap(const Napi::CallbackInfo &info);
  ~SessionWrap() override;

  const std::shared_ptr<host::CallContext> &context() const { return client_->context; }
  const std::shared_ptr<LoopHold> &hold() const { return hold_; }
  const std::shared_ptr<LoopHold> &server_hold() const { return server_hold_; }
  // Another export that the client has opened: during the handshake, abort gives that up too.
  void give_up_with(const SharedPluginClient &other) { others_.push_back(other); }

private:
  Napi::Value enter(const Napi::CallbackInfo &info);
  Napi::Value read(const Napi::CallbackInfo &info);
  Napi::Value skip(const Napi::CallbackInfo &info);
  Napi::Value write(const Napi::CallbackInfo &info);
  Napi::Value upgrade_tls(const Napi::CallbackInfo &info);
  Napi::Value is_tls(const Napi::CallbackInfo &info);
  Napi::Value start(const Napi::CallbackInfo &info);
  Napi::Value stop(const Napi::CallbackInfo &info);
  Napi::Value counts(const Napi::CallbackInfo &info);
  Napi::Value log_trouble(const Napi::CallbackInfo &info);
  Napi::Value log_event(const Napi::CallbackInfo &info);
  Napi::Value abort(const Napi::CallbackInfo &info);
  Napi::Value set_ref(const Napi::CallbackInfo &info);

  Napi::Value watch_for_end(const Napi::CallbackInfo &info);

  void on_input();
  Napi::Value begin_io(Napi::Env env);
  void advance_io();
  void settle_io(Napi::Value value);
  void on_tls();
  void stop_polling();
  void close_fds();

  int in_fd_;
  int out_fd_;
  host::LoggedClient logged_;
  std::shared_ptr<LoopHold> hold_; // the client's, for calls and the transmission phase
  const std::shared_ptr<LoopHold> server_hold_;
  std::shared_ptr<nbd::ClientContext> client_context_; // until the start
  std::vector<std::weak_ptr<PluginClient>> others_;
  std::shared_ptr<base::MemoryBudget> budget_;
  std::unique_ptr<transport::HandshakeIo> io_;
  std::unique_ptr<FdPoll> in_poll_;
  std::unique_ptr<FdPoll> out_poll_; // for the same descriptor, unless in and out differ
  std::unique_ptr<Napi::Promise::Deferred> pending_io_;
  enum class Operation { read, write, tls };
  Operation operation_ = Operation::read; // the pending one; a skip counts as a write
  bool started_ = false;
  std::weak_ptr<nbd::Connection> connection_; // it keeps itself alive until its end
  Napi::FunctionReference on_end_;            // while nothing is read
};

} // namespace asyncnbd::addon
