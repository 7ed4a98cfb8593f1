// A C plugin's shared object and its life outside of connections: load, config, … , unload.
// c_backend.hpp has what happens inside a connection.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/resources.hpp"
#include "backend/turn_queue.hpp"
#include "host/abi.hpp"
#include "host/context.hpp"
#include "host/library.hpp"

namespace asyncnbd::backend {

struct PluginFailure {
  PluginFailure(std::string words, bool is_logged = false)
      : words(std::move(words)), is_logged(is_logged) {}

  std::string words; // for the user
  bool is_logged;    // by the plugin itself
};

// The thread that starts the server calls these, in the order of the declarations; but get_ready of
// an asynchronous plugin is called on any thread, and may block.
class CPlugin : public std::enable_shared_from_this<CPlugin> {
public:
  // std::nullopt is success.
  using Failure = std::optional<PluginFailure>;

  CPlugin(std::string path, const Resources &resources)
      : resources_(resources), path_(std::move(path)) {}
  ~CPlugin();

  // dlopen, plugin_init and the checks of its result; calls nothing else of the plugin.
  Failure open();

  // Sets the plugin's int NAME_debug_FLAG; false if it has no such variable.
  bool set_debug_flag(const std::string &flag, int value);

  void load();
  Failure config(const std::string &key, const std::string &value);
  Failure config_complete();
  Failure settle_thread_model();
  Failure get_ready();
  Failure after_fork();
  void drained(); // if the plugin has it; on another thread, which may block
  void cleanup();
  void unload();

  // --dump-plugin: our KEY=VALUE lines, then what the plugin prints on stdout. `model`: the least
  // of the plugin's model and those of the filters in front of it.
  std::string describe(ThreadModel model) const;
  void dump_plugin() const;

  const struct nbdkit_plugin &table() const { return table_; }
  const std::string &path() const { return path_; }
  const std::string &name() const { return name_; }
  ThreadModel thread_model() const { return thread_model_; }

  // For asyncnbd_instance: this server's memory of a plugin that can serve several servers.
  // nullptr: none.
  void *instance() const { return instance_.get(); }

  // Whether to use the callbacks that answer later; if not, table() has none.
  bool is_async() const { return max_thread_model_ == ThreadModel::async; }

  // Whether it was built with our header, and so expects what differs from nbdkit.
  bool is_extended() const { return is_extended_; }

  // Held around every callback for a client, except requests, if the plugin wants one call at a
  // time. For other plugins the lock is empty.
  std::unique_lock<TurnQueue> serialize_calls();
  // Where the requests of a new export wait for their turn; `threads`: how many calls at once the
  // user allows on an export. nullptr: they do not wait.
  std::shared_ptr<TurnQueue> turns_of_export(unsigned threads);
  const Resources &resources() const { return resources_; }

  // Whether the plugin has asked for a shutdown. To be asked once the server exists, which is told
  // of later wishes.
  bool is_shutdown_requested() const { return shutdown_.is_expressed(); }

  // Requests that were given up and to which the plugin may still reply. A count: pairs with
  // nothing.
  std::atomic<unsigned> unanswered_requests{0};

private:
  bool has_blocking_calls() const;
  Failure open_library();
  void read_extension();
  Failure check_table();
  Failure run(const char *callback, int (*function)());

  struct Free {
    void operator()(void *memory) const { free(memory); }
  };

  const Resources resources_;
  const std::string path_;
  host::Library library_;
  std::unique_ptr<void, Free> instance_;
  struct nbdkit_plugin table_ {};
  size_t struct_size_ = 0; // the plugin's, which may be larger or smaller than ours
  std::string name_;
  bool is_extended_ = false;
  ThreadModel max_thread_model_ = ThreadModel::parallel; // what the plugin was built with
  ThreadModel thread_model_ = ThreadModel::parallel;     // what it asked for when started
  const std::shared_ptr<TurnQueue> all_calls_ = std::make_shared<TurnQueue>(1, 1, resources_);
  host::ShutdownWish shutdown_;
};

// ---- common to the shared objects of plugins and filters

// Letters, digits and dashes, no dash first.
bool is_plugin_name(const char *name);
// The failure of a callback: the message that it has logged since this thread's count of messages
// was `messages`, or else `otherwise`.
CPlugin::Failure failure_after(uint64_t messages, const std::string &otherwise);
// Sets the int NAME_debug_FLAG of a library; false if it has no such variable.
bool set_debug_variable(const host::Library &library, const std::string &name,
                        const std::string &flag, int value);
// One thread at a time opens a library: several may load plugins, and perhaps the same one.
void with_plugin_opening(const std::function<void()> &open);

} // namespace asyncnbd::backend
