// The shared object of one of nbdkit's filters, and its life before, beside and after its
// connections. What happens inside a connection is in filter_layer.hpp.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "backend/c_plugin.hpp"
#include "backend/level.hpp"
#include "cplugin/filter_abi.hpp"
#include "host/library.hpp"

// What filters get as the backend behind them: one object for all clients, from the filter's start
// to the server's end.
struct nbdkit_backend {
  // For the client whose call is in progress on this thread; without a `bottom` if there is none.
  asyncnbd::backend::Level level() const;

  asyncnbd::backend::Level place; // without a `bottom`
};

namespace asyncnbd::cplugin {

// May stand at several places of one server's chain, which then share its variables, as in nbdkit:
// calls outside of connections come once for each place. The thread that starts the server makes
// them, in the order of the declarations.
class CFilter {
public:
  using Failure = backend::CPlugin::Failure;

  explicit CFilter(std::string path) : path_(std::move(path)) {}
  CFilter(const CFilter &) = delete;
  CFilter &operator=(const CFilter &) = delete;

  // dlopen, filter_init and the checks of its result; calls nothing else of the filter.
  Failure open();
  bool set_debug_flag(const std::string &flag, int value);

  void load();
  // `next` passes a parameter on to what is behind the filter. False: that has failed and logged
  // why; then the filter's own error does not matter.
  using NextConfig = std::function<bool(const char *key, const char *value)>;
  Failure config(const std::string &key, const std::string &value, const NextConfig &next);
  using NextConfigComplete = std::function<bool()>;
  Failure config_complete(const NextConfigComplete &next);
  // `behind`: the least model of everything behind the filter.
  Failure settle_thread_model(int behind);
  // The highest model that the filter allows.
  backend::ThreadModel thread_model() const { return thread_model_; }
  // `model`: the least of the whole chain.
  Failure get_ready(int model);
  // Tells the filter what is behind one of its places when there is no client. Called before
  // after_fork, for the outermost place first.
  nbdkit_backend &placed(const backend::Level &behind) {
    return places_.emplace_back(nbdkit_backend{behind});
  }
  // after_fork runs for the innermost place first, cleanup for the outermost that has been started.
  Failure after_fork();
  void cleanup();
  void unload();

  // The filter has called nbdkit_shutdown outside of all connections.
  bool is_shutdown_requested() const { return shutdown_.is_expressed(); }

  const nbdkit_filter &table() const { return table_.callbacks; }
  const std::string &path() const { return path_; }
  const std::string &name() const { return name_; }

private:
  Failure open_library();
  template <typename Call> Failure run(Call call, const std::string &words);
  std::string without_reason(const char *callback) const;

  const std::string path_;
  host::Library library_;
  FilterTable table_{};
  std::string name_;
  backend::ThreadModel thread_model_ = backend::ThreadModel::parallel;
  nbdkit_backend *innermost(size_t number);

  std::deque<nbdkit_backend> places_; // filters keep their addresses
  nbdkit_backend nowhere_{};          // in a chain that another thread has made
  size_t started_ = 0;
  unsigned loads_ = 0;
  host::ShutdownWish shutdown_;
};

} // namespace asyncnbd::cplugin
