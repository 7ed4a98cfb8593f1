// See log_wrap.hpp.
#include "addon/log_wrap.hpp"

#include <atomic>
#include <string>

#include "addon/js_queue.hpp"

namespace asyncnbd::addon {

namespace {

// When this many lines of a kind wait for JavaScript, further ones are dropped: a plugin may log
// without end.
constexpr uint32_t MAX_WAITING_LINES = 10'000;

class JsLog final : public host::LogTarget {
public:
  JsLog(std::shared_ptr<JsQueue> queue, std::weak_ptr<Napi::FunctionReference> on_line)
      : queue_(std::move(queue)), on_line_(std::move(on_line)) {}

  void write(base::LogLevel level, const std::string &text) override {
    Kind &kind = kind_of(level);
    if (kind.waiting.fetch_add(1, std::memory_order_relaxed) >= MAX_WAITING_LINES) {
      kind.waiting.fetch_sub(1, std::memory_order_relaxed);
      kind.left_out.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    queue_->post(
        [self = std::static_pointer_cast<JsLog>(shared_from_this()), level, text](Napi::Env env) {
          Kind &kind = self->kind_of(level);
          kind.waiting.fetch_sub(1, std::memory_order_relaxed);
          self->deliver(env, level, text);
          if (const uint64_t lines = kind.left_out.exchange(0, std::memory_order_relaxed))
            self->deliver(env, base::LogLevel::warning,
                          std::to_string(lines) + " " + kind.name +
                              " were left out, as they came too fast");
        });
  }

private:
  // Lines of one kind do not take the room of the other.
  struct Kind {
    const char *name;
    // Counts, which pair with nothing.
    std::atomic<uint32_t> waiting{0};
    std::atomic<uint64_t> left_out{0};
  };

  Kind &kind_of(base::LogLevel level) { return level <= base::LogLevel::warning ? grave_ : light_; }

  void deliver(Napi::Env env, base::LogLevel level, const std::string &text) {
    if (const auto on_line = on_line_.lock())
      on_line->Call(
          {Napi::Number::New(env, static_cast<int>(level)), Napi::String::New(env, text)});
  }

  const std::shared_ptr<JsQueue> queue_;
  const std::weak_ptr<Napi::FunctionReference> on_line_;
  Kind grave_{"errors and warnings"};
  Kind light_{"lines for debugging"};
};

} // namespace

Napi::Function LogWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeLog",
                     {
                         InstanceMethod("enter", &LogWrap::enter),
                         InstanceMethod("leave", &LogWrap::leave),
                         InstanceMethod("drained", &LogWrap::drained),
                     });
}

// new NativeLog(onLine): the function gets a base::LogLevel and a text.
LogWrap::LogWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  on_line_ =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[0].As<Napi::Function>()));
  queue_ = JsQueue::of(info.Env());
  target_ = std::make_shared<JsLog>(queue_, on_line_);
}

std::shared_ptr<host::LogTarget> LogWrap::target_of(const Napi::Value &value) {
  return value.IsObject() ? Unwrap(value.As<Napi::Object>())->target_ : nullptr;
}

Napi::Value LogWrap::enter(const Napi::CallbackInfo &info) {
  outer_.push_back(host::exchange_thread_log(target_.get()));
  return info.Env().Undefined();
}

Napi::Value LogWrap::leave(const Napi::CallbackInfo &info) {
  host::exchange_thread_log(outer_.back());
  outer_.pop_back();
  return info.Env().Undefined();
}

// drained(): a promise. Tasks run in the order in which they were posted.
Napi::Value LogWrap::drained(const Napi::CallbackInfo &info) {
  auto deferred = std::make_shared<Napi::Promise::Deferred>(info.Env());
  queue_->hold();
  queue_->post([queue = queue_, deferred](Napi::Env env) {
    queue->release();
    deferred->Resolve(env.Undefined());
  });
  return deferred->Promise();
}

} // namespace asyncnbd::addon
