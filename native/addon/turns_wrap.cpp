// See turns_wrap.hpp.
#include "addon/turns_wrap.hpp"

#include <string>
#include <utility>

#include "addon/js_queue.hpp"
#include "addon/runtime.hpp"
#include "base/invariant.hpp"

namespace asyncnbd::addon {

// The queue calls it on any thread; everything else happens on JavaScript's.
class JsTurn final : public backend::TurnTaker, public std::enable_shared_from_this<JsTurn> {
public:
  JsTurn(Napi::Env env, std::shared_ptr<backend::TurnQueue> queue)
      : js_(JsQueue::of(env)), hold_(js_), queue_(std::move(queue)), begun_(env) {}

  Napi::Promise promise() const { return begun_.Promise(); }

  void begin(Napi::Env env) {
    if (queue_->try_begin()) {
      settle(env, true);
      return;
    }
    hold_.begin();
    base::invariant(queue_->wait_for_turn(*this, nullptr),
                    "a queue without workers needs no thread");
  }

  // Ends the turn, or the wait for it. True: the turn has not come, and will not.
  bool end() {
    if (std::exchange(is_over_, true))
      return false;
    if (!queue_->withdraw(*this).empty()) {
      hold_.end();
      return true;
    }
    queue_->wait_for_workers(*this);
    queue_->end();
    return false;
  }

  void set_ref(bool is_ref) { hold_.set_ref(is_ref); }

  void settle(Napi::Env env, bool has_begun) { begun_.Resolve(Napi::Boolean::New(env, has_begun)); }

private:
  void take_turn(backend::Request *) override {
    js_->post([self = shared_from_this()](Napi::Env env) {
      self->hold_.end();
      self->settle(env, !self->is_over_);
    });
  }

  const std::shared_ptr<JsQueue> js_;
  LoopHold hold_;
  const std::shared_ptr<backend::TurnQueue> queue_;
  const Napi::Promise::Deferred begun_;
  bool is_over_ = false;
};

Napi::Function TurnsWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeTurns", {});
}

// new NativeTurns(sharedAs): one turn at a time, without workers, because calls only queue
// something for JavaScript.
TurnsWrap::TurnsWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  queue_ = shared_turns().join(info[0].As<Napi::String>(),
                               std::make_shared<backend::TurnQueue>(1, 0, resources().of_backends));
}

Napi::Function TurnWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeTurn",
                     {
                         InstanceMethod("begun", &TurnWrap::begun),
                         InstanceMethod("end", &TurnWrap::end),
                         InstanceMethod("setRef", &TurnWrap::set_ref),
                     });
}

// new NativeTurn(turns)
TurnWrap::TurnWrap(const Napi::CallbackInfo &info) : ObjectWrap(info) {
  turn_ =
      std::make_shared<JsTurn>(info.Env(), TurnsWrap::Unwrap(info[0].As<Napi::Object>())->queue());
  begun_ = Napi::Persistent(turn_->promise());
  turn_->begin(info.Env());
}

TurnWrap::~TurnWrap() {
  turn_->end();
}

// begun(): resolves once the turn has come; with false, if the wait has ended before.
Napi::Value TurnWrap::begun(const Napi::CallbackInfo &) {
  return begun_.Value();
}

// setRef(isRef): whether the wait keeps the event loop alive; at first it does.
Napi::Value TurnWrap::set_ref(const Napi::CallbackInfo &info) {
  turn_->set_ref(info[0].As<Napi::Boolean>());
  return info.Env().Undefined();
}

// end(): ends the turn, or the wait for it.
Napi::Value TurnWrap::end(const Napi::CallbackInfo &info) {
  if (turn_->end())
    turn_->settle(info.Env(), false);
  return info.Env().Undefined();
}

} // namespace asyncnbd::addon
