// The context of the functions exported to C plugins: the server, the connection being served, and
// per-thread state around one callback.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/mutex.hpp"
#include "host/log_owner.hpp"
#include "host/log_target.hpp"

namespace asyncnbd::backend {
class Bottom;
}

namespace asyncnbd::host {

// One server as its plugins see it. Thread-safe.
class ServerContext {
public:
  // `on_shutdown_requested` is called by nbdkit_shutdown, on the calling plugin's thread.
  // `log`: where its lines go; nullptr: the process's log.
  explicit ServerContext(std::function<void()> on_shutdown_requested,
                         std::shared_ptr<LogTarget> log = nullptr);
  ~ServerContext();
  ServerContext(const ServerContext &) = delete;
  ServerContext &operator=(const ServerContext &) = delete;

  // Ends every present and future nbdkit_nanosleep of this server.
  void announce_stop();
  void request_shutdown() { on_shutdown_requested_(); }

  // A file descriptor that becomes and stays readable when the server stops; -1 if the system had
  // none left.
  int stop_fd() const { return stop_fd_; }
  bool is_stopping() const { return is_stopping_.load(); }
  const std::shared_ptr<LogTarget> &log() const { return log_; }

private:
  int stop_fd_;
  std::atomic<bool> is_stopping_{false}; // pairs with nothing: stop_fd_ wakes threads that wait
  std::function<void()> on_shutdown_requested_;
  const std::shared_ptr<LogTarget> log_;
  const LogOwner owner_;
};

// Whether a plugin has called nbdkit_shutdown outside a connection, perhaps before the server
// existed.
class ShutdownWish {
public:
  ShutdownWish();
  ~ShutdownWish();
  ShutdownWish(const ShutdownWish &) = delete;
  ShutdownWish &operator=(const ShutdownWish &) = delete;

  void express() { is_expressed_.store(true); }
  bool is_expressed() const { return is_expressed_.load(); }

private:
  std::atomic<bool> is_expressed_{false}; // pairs with nothing: read after callbacks have returned
};

// While a plugin is configured and started, nbdkit_shutdown on this thread concerns only that
// plugin's server.
class StartScope {
public:
  explicit StartScope(ShutdownWish *wish);
  ~StartScope();
  StartScope(const StartScope &) = delete;
  StartScope &operator=(const StartScope &) = delete;
};

// nbdkit_shutdown outside a connection, on a thread of an unknown plugin: asks all servers of the
// process, including those that are starting.
void request_shutdown_everywhere();

// Strings kept at a fixed address until the pool dies. Thread-safe. Equal strings are kept once.
class InternPool {
public:
  const char *add(std::string_view text);

private:
  base::Mutex<base::LockRank::interns> mutex_;
  std::set<std::string, std::less<>> strings_;
};

// Strings that live as long as the process: parameter keys and values, and what plugins intern
// outside a connection.
InternPool &process_interns();

// One connection as its plugin sees it.
class CallContext {
public:
  CallContext(std::shared_ptr<ServerContext> server, std::string plugin_name, uint64_t number)
      : server(std::move(server)), plugin_name(std::move(plugin_name)), number(number) {}
  virtual ~CallContext() = default;

  // nbdkit_disconnect; see nbdkit-common.h. Called on any thread, from inside a callback.
  virtual void disconnect(bool force) = 0;

  const std::shared_ptr<ServerContext> server;
  std::string plugin_name; // of the export that the client has named; changes only between calls
  const uint64_t number;   // this connection's, counted from 1: the N of "memory[N]" in messages
  // For questions about the peer; set before the first callback, and -1 again before it is closed.
  // Pairs with nothing.
  std::atomic<int> peer_fd{-1};
  bool tls = false;
  std::string tls_peer_name; // from the client's certificate, if it was verified
  std::string tls_issuer_name;
  InternPool interns;
  std::optional<std::string> default_export;              // the plugin's answer, asked once
  std::map<size_t, std::string> default_exports_in_front; // the filters' answers, by their places
  backend::Bottom *bottom = nullptr; // the bottom of its chain, for nbdkit's filters
  // Interned; set by open, cleared by close. Filters may open again while other threads log lines
  // with it. It pairs with nothing, as the string stays.
  std::atomic<const char *> export_name{nullptr};
  void *instance = nullptr; // the plugin's, for asyncnbd_instance
};

// Until the scope ends, plugin functions called on this thread refer to `context`. A callback
// starts without an error; an error that was set before the scope is set again after it.
// `may_copy`: see nbdkit_async_may_copy.
class ContextScope {
public:
  explicit ContextScope(CallContext *context, bool may_copy = false);
  ~ContextScope();
  ContextScope(const ContextScope &) = delete;
  ContextScope &operator=(const ContextScope &) = delete;

private:
  CallContext *previous_;
  bool previous_may_copy_;
  int previous_error_;
};

// The same for calls outside connections, where only the instance is known.
class InstanceScope {
public:
  explicit InstanceScope(void *instance);
  ~InstanceScope();
  InstanceScope(const InstanceScope &) = delete;
  InstanceScope &operator=(const InstanceScope &) = delete;

private:
  void *previous_;
};

CallContext *current_context();

// The errno given to nbdkit_set_error on this thread since the scope began (or since it was
// cleared), 0 if none.
int current_error();
void clear_current_error();

// The last nbdkit_error message of this thread since current_error was cleared; only once.
std::string take_error_message();
// As if nbdkit_error had been called with the message, which has already been logged. "": none.
void keep_error_message(std::string message);

// The number of nbdkit_error messages of this thread: shows whether a failed callback has logged a
// reason.
uint64_t error_messages_on_this_thread();

} // namespace asyncnbd::host
