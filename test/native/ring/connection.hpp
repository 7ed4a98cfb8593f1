// One client of an export, served on a ring: takes its requests, submits them to the chain, and
// completes them in the ring from whatever thread replies.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "backend/c_bottom.hpp"
#include "backend/chain.hpp"
#include "host/context.hpp"
#include "schedule/call_latency.hpp"
#include "schedule/leader_token.hpp"
#include "schedule/pollable.hpp"
#include "schedule/runtime.hpp"
#include "schedule/slow_call_detector.hpp"
#include "server_side.hpp"

namespace ring {

// What all connections share. Outlives them and what a plugin may still reply to.
struct Served {
  asyncnbd::schedule::Runtime &runtime;
  const asyncnbd::backend::Resources &resources;
  std::shared_ptr<asyncnbd::host::ServerContext> server;
  std::shared_ptr<asyncnbd::backend::CPlugin> plugin;
  std::shared_ptr<asyncnbd::backend::Chain> chain;
  unsigned threads;
};

class Connection final : public std::enable_shared_from_this<Connection>,
                         private asyncnbd::backend::Maker,
                         private asyncnbd::schedule::Pollable,
                         private asyncnbd::schedule::SlowCallListener {
public:
  // Takes the socket.
  Connection(const Served &served, int socket, uint64_t number);
  ~Connection() override;

  // Whether the plugin or a filter stands one client at a time.
  bool is_for_one_client() { return served_.chain->front(bottom_).serializes_connections(); }

  // On a thread of the pool, which it may keep: greets the client and serves it, there and on other
  // threads, until it leaves or `stop`. `on_closed` comes at the very end, on one of them.
  void serve(std::function<void()> on_closed);
  // Any thread.
  void stop() { hang_up(); }

private:
  struct Context final : asyncnbd::host::CallContext {
    Context(const Served &served, uint64_t number, Connection &connection)
        : CallContext(served.server, served.plugin->name(), number), connection(connection) {}
    void disconnect(bool force) override {
      is_disconnected = true;
      if (force)
        connection.hang_up();
    }
    Connection &connection;
    std::atomic<bool> is_disconnected{false}; // pairs with nothing: from some request on
  };

  struct Job : asyncnbd::backend::Request {
    RequestEntry entry;
    bool is_free = true;
    // Of one that is given up: the ring and the plugin, whose late reply may come before give_up.
    // Each decrement is a release and an acquire.
    std::atomic<int> holders{2};
    std::shared_ptr<Connection> pin; // until both have let go
  };

  // backend::Maker
  void complete(asyncnbd::backend::Request &request, int error) override;
  void give_up(asyncnbd::backend::Request &request, int error) override;
  void release(asyncnbd::backend::Request &request) override;
  bool client_has_gone() const override { return client_has_gone_.load(); }
  // Pollable
  Turn resume() override;
  bool release_idle_memory() override;
  // SlowCallListener
  bool on_slow_call(uint64_t call) override;

  int open(const Hello &hello);
  bool greet();
  void send_welcome(int error);
  void lead();
  bool execute(const RequestEntry &entry);
  Job *new_job(const RequestEntry &entry);
  void hand_over(uint64_t call);
  bool is_over();
  void post(uint64_t id, int error, uint32_t count, Job *freed);
  void hang_up();
  void end();
  void finish();

  const Served &served_;
  Context context_;
  asyncnbd::backend::CBottom bottom_;
  const int socket_;
  std::unique_ptr<ServerSide> ring_;
  std::unique_ptr<asyncnbd::backend::Backend> backend_;
  std::function<void()> on_closed_;
  std::shared_ptr<Connection> self_; // until finish

  asyncnbd::schedule::LeaderToken leader_token_;
  asyncnbd::schedule::CallLatency latency_;
  asyncnbd::schedule::Registration *registration_ = nullptr; // before the first call
  unsigned max_threads_ = 1;
  unsigned turn_requests_ = 0;               // the leader's
  std::atomic<unsigned> threads_{1};         // a count, pairs with nothing
  std::atomic<bool> client_has_gone_{false}; // a hint to plugins, pairs with nothing

  std::mutex mutex_; // guards what follows, and is the completions' order
  std::condition_variable settled_;
  std::array<Job, ENTRIES> jobs_;
  unsigned in_flight_ = 0;
};

} // namespace ring
