// See log_wrap.hpp.
#include "addon/log_wrap.hpp"

#include <atomic>
#include <string>

#include "addon/js_queue.hpp"

namespace asyncnbd::addon {

namespace {

// More lines do not wait for JavaScript, but are left out: a plugin may log for ever.
constexpr uint32_t MAX_WAITING_LINES = 10'000;

class JsLog final : public host::LogTarget, public std::enable_shared_from_this<JsLog> {
public:
  JsLog(std::shared_ptr<JsQueue> queue, std::weak_ptr<Napi::FunctionReference> on_line)
      : queue_(std::move(queue)), on_line_(std::move(on_line)) {}

  void write(base::LogLevel level, const std::string &text) override {
    if (waiting_.fetch_add(1, std::memory_order_relaxed) >= MAX_WAITING_LINES) {
      waiting_.fetch_sub(1, std::memory_order_relaxed);
      left_out_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    queue_->post([self = shared_from_this(), level, text](Napi::Env env) {
      self->waiting_.fetch_sub(1, std::memory_order_relaxed);
      self->deliver(env, level, text);
      if (const uint64_t lines = self->left_out_.exchange(0, std::memory_order_relaxed))
        self->deliver(env, base::LogLevel::warning,
                      std::to_string(lines) + " lines were left out, as they came too fast");
    });
  }

private:
  void deliver(Napi::Env env, base::LogLevel level, const std::string &text) {
    if (const auto on_line = on_line_.lock())
      on_line->Call(
          {Napi::Number::New(env, static_cast<int>(level)), Napi::String::New(env, text)});
  }

  const std::shared_ptr<JsQueue> queue_;
  const std::weak_ptr<Napi::FunctionReference> on_line_;
  // Counts: they pair with nothing.
  std::atomic<uint32_t> waiting_{0};
  std::atomic<uint64_t> left_out_{0};
};

} // namespace

Napi::Function LogWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeLog",
                     {
                         InstanceMethod("enter", &LogWrap::enter),
                         InstanceMethod("leave", &LogWrap::leave),
                     });
}

// new NativeLog(onLine): the function gets a base::LogLevel and a text.
LogWrap::LogWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  on_line_ =
      std::make_shared<Napi::FunctionReference>(Napi::Persistent(info[0].As<Napi::Function>()));
  target_ = std::make_shared<JsLog>(JsQueue::of(info.Env()), on_line_);
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

} // namespace asyncnbd::addon
