// See js_queue.hpp.
#include "addon/js_queue.hpp"

#include <string>

#include "addon/runtime.hpp"
#include "base/invariant.hpp"

namespace asyncnbd::addon {

namespace {

struct InstanceData {
  std::shared_ptr<JsQueue> queue;
};

} // namespace

std::shared_ptr<JsQueue> JsQueue::of(Napi::Env env) {
  return env.GetInstanceData<InstanceData>()->queue;
}

void JsQueue::create(Napi::Env env) {
  std::shared_ptr<JsQueue> queue(new JsQueue(env));
  napi_value name = Napi::String::New(env, "asyncnbd");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr,
                                      queue.get(), &JsQueue::call_js,
                                      &queue->function_) != napi_ok) {
    Napi::Error::New(env, "cannot create a threadsafe function").ThrowAsJavaScriptException();
    return;
  }
  napi_unref_threadsafe_function(env, queue->function_);
  napi_add_env_cleanup_hook(env, &JsQueue::close, queue.get());
  env.SetInstanceData(new InstanceData{queue});
}

// While Node ends, it runs its event loop once more before it calls any hook of ours. Then no
// object can be made or changed, so tasks must not run.
static bool can_run(napi_env env) {
  napi_value global = nullptr;
  bool ignored = false;
  return napi_get_global(env, &global) == napi_ok &&
         napi_has_element(env, global, 0, &ignored) == napi_ok;
}

void JsQueue::close(void *queue) {
  auto *self = static_cast<JsQueue *>(queue);
  std::lock_guard lock(self->mutex_);
  napi_release_threadsafe_function(self->function_, napi_tsfn_abort);
  self->function_ = nullptr;
}

bool JsQueue::may_drop_references() {
  std::lock_guard lock(mutex_);
  return function_ != nullptr || pthread_equal(js_thread_, pthread_self()) != 0;
}

void JsQueue::post(JsTask task) {
  auto boxed = std::make_unique<JsTask>(std::move(task)); // outlives the lock: it may own anything
  std::lock_guard lock(mutex_);
  if (function_ != nullptr &&
      napi_call_threadsafe_function(function_, boxed.get(), napi_tsfn_nonblocking) == napi_ok)
    (void)boxed.release(); // now owned by call_js
}

// Node opens a handle scope and a callback scope around this.
void JsQueue::call_js(napi_env env, napi_value, void *, void *task) {
  std::unique_ptr<JsTask> boxed(static_cast<JsTask *>(task));
  if (env != nullptr && can_run(env)) // nullptr: the environment is being torn down
    (*boxed)(env);
}

void JsQueue::hold() {
  std::lock_guard lock(mutex_);
  if (holds_++ == 0 && function_ != nullptr)
    napi_ref_threadsafe_function(env_, function_);
}

void JsQueue::release() {
  std::lock_guard lock(mutex_);
  if (--holds_ == 0 && function_ != nullptr)
    napi_unref_threadsafe_function(env_, function_);
}

void LoopHold::end() {
  base::invariant(begun_ > 0, "what ends has begun to hold the event loop");
  change(begun_ - 1, is_ref_);
}

void LoopHold::change(unsigned begun, bool is_ref) {
  const bool held = begun_ > 0 && is_ref_;
  begun_ = begun;
  is_ref_ = is_ref;
  const bool holds = begun > 0 && is_ref;
  if (holds && !held)
    queue_->hold();
  else if (held && !holds)
    queue_->release();
}

void run_blocking(Napi::Env env, std::function<void()> work,
                  std::function<void(Napi::Env, bool ran)> settle, std::shared_ptr<LoopHold> hold) {
  std::shared_ptr<JsQueue> queue = JsQueue::of(env);
  if (hold == nullptr)
    hold = std::make_shared<LoopHold>(queue);
  hold->begin();
  JsTask done = [hold, settle](Napi::Env env) {
    hold->end();
    settle(env, true);
  };
  bool running = runtime().threads.run([queue, work = std::move(work), done] {
    work();
    queue->post(done);
  });
  if (!running) {
    hold->end();
    settle(env, false);
  }
}

Napi::Value promise_blocking(Napi::Env env, const char *what, std::function<void()> work,
                             std::function<Napi::Value(Napi::Env)> result,
                             std::shared_ptr<LoopHold> hold) {
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  run_blocking(
      env, std::move(work),
      [deferred, what, result = std::move(result)](Napi::Env env, bool ran) {
        if (ran)
          deferred->Resolve(result(env));
        else
          deferred->Reject(
              Napi::Error::New(env, std::string("cannot start a thread ") + what).Value());
      },
      std::move(hold));
  return deferred->Promise();
}

} // namespace asyncnbd::addon
