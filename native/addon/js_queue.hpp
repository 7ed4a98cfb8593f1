// Work for the JavaScript thread, posted from any other: results of plugin calls, connections
// that have closed.
#pragma once

#include <functional>
#include <memory>
#include <napi.h>
#include <pthread.h>

#include "base/mutex.hpp"

namespace asyncnbd::addon {

using JsTask = std::function<void(Napi::Env)>;

// One per environment (main thread or worker).
class JsQueue : public std::enable_shared_from_this<JsQueue> {
public:
  // The environment's queue; made by the module's initialisation.
  static std::shared_ptr<JsQueue> of(Napi::Env env);
  static void create(Napi::Env env);

  // Runs `task` on the JavaScript thread, in order; drops it if the environment is gone. Any
  // thread.
  void post(JsTask task);

  // False: the environment is going, or has gone, and this thread, which is not JavaScript's, must
  // leave its references alone. Any thread.
  bool may_drop_references();

  // Between hold and release the event loop stays alive. JavaScript thread only.
  void hold();
  void release();

private:
  explicit JsQueue(napi_env env) : env_(env) {}
  static void call_js(napi_env env, napi_value callback, void *queue, void *task);
  static void close(void *queue);

  napi_env env_;
  const pthread_t js_thread_ = pthread_self();
  base::Mutex<base::LockRank::js_queue> mutex_;
  napi_threadsafe_function function_ = nullptr; // nullptr once the environment is going
  unsigned holds_ = 0;
};

// Keeps the event loop alive from the first begin to the last end, unless set_ref has turned that
// off. JavaScript thread only, except for its destructor, which does nothing: the loop has gone
// with the environment.
class LoopHold {
public:
  explicit LoopHold(std::shared_ptr<JsQueue> queue) : queue_(std::move(queue)) {}

  void begin() { change(begun_ + 1, is_ref_); }
  void end();
  void set_ref(bool is_ref) { change(begun_, is_ref); }
  JsQueue &queue() const { return *queue_; }

private:
  void change(unsigned begun, bool is_ref);

  const std::shared_ptr<JsQueue> queue_;
  unsigned begun_ = 0;
  bool is_ref_ = true;
};

// Runs `work` on a thread of the thread pool, where it may block, then `settle` on the JavaScript
// thread; until then the event loop stays alive, unless `hold` says otherwise. If no thread is
// available, `settle` gets false.
void run_blocking(Napi::Env env, std::function<void()> work,
                  std::function<void(Napi::Env, bool ran)> settle,
                  std::shared_ptr<LoopHold> hold = nullptr);

inline Napi::Value undefined(Napi::Env env) {
  return env.Undefined();
}
inline Napi::Value promise_of_nothing(Napi::Env env) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Resolve(env.Undefined());
  return deferred.Promise();
}

constexpr const char *FOR_PLUGIN_CALL = "for a plugin call";

// The same as a promise: of what `result` makes on the JavaScript thread when `work` has run, or of
// an error that says what no thread could be started for.
Napi::Value promise_blocking(Napi::Env env, const char *what, std::function<void()> work,
                             std::function<Napi::Value(Napi::Env)> result,
                             std::shared_ptr<LoopHold> hold = nullptr);

} // namespace asyncnbd::addon
