// See chain_wrap.hpp.
#include "addon/chain_wrap.hpp"

#include <string>
#include <utility>
#include <vector>

#include "addon/c_filter_wrap.hpp"
#include "addon/counters_wrap.hpp"
#include "addon/hold_wrap.hpp"
#include "addon/js_queue.hpp"
#include "addon/log_wrap.hpp"
#include "addon/runtime.hpp"
#include "cplugin/filter_place.hpp"
#include "filters/debug_flags.hpp"
#include "filters/registry.hpp"
#include "host/log_scope.hpp"

namespace asyncnbd::addon {

namespace {

std::vector<std::string> strings_of(const Napi::Array &given) {
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < given.Length(); i++)
    strings.push_back(given.Get(i).ToString());
  return strings;
}

// Converts a bigint; false: it does not fit.
bool is_uint64(const Napi::Value &given, uint64_t *value) {
  bool is_exact = false;
  *value = given.As<Napi::BigInt>().Uint64Value(&is_exact);
  return is_exact;
}

// { name: number, bigint, boolean, string, array of strings, NativeCounters or undefined }. Any
// other value is an error for users of middleware, in `*error`.
filters::FilterOptions options_of(const Napi::Object &given, const std::string &filter,
                                  std::string *error) {
  filters::FilterOptions options;
  Napi::Array keys = given.GetPropertyNames();
  for (uint32_t i = 0; i < keys.Length(); i++) {
    const std::string key = keys.Get(i).As<Napi::String>();
    Napi::Value value = given.Get(key);
    uint64_t whole = 0;
    if (value.IsBigInt() && is_uint64(value, &whole))
      options[key] = whole;
    else if (value.IsNumber())
      options[key] = value.As<Napi::Number>().DoubleValue();
    else if (value.IsBoolean())
      options[key] = value.As<Napi::Boolean>().Value();
    else if (value.IsString())
      options[key] = value.As<Napi::String>().Utf8Value();
    else if (value.IsArray())
      options[key] = strings_of(value.As<Napi::Array>());
    else if (CountersWrap *counters = CountersWrap::of_value(value))
      options[key] = counters->counters();
    else if (!value.IsUndefined())
      *error =
          "filter " + filter + ", option " + key + ": expected a number, a boolean or a string";
  }
  return options;
}

// nullptr on failure, with a message in `*error`.
std::unique_ptr<backend::Filter> native_filter(const Napi::Object &given, std::string *error) {
  const std::string name = given.Get("name").As<Napi::String>();
  const filters::FilterOptions options =
      options_of(given.Get("options").As<Napi::Object>(), name, error);
  if (!error->empty())
    return nullptr;
  return filters::make_filter(name, options, resources().of_backends, error);
}

// nullptr on failure, with a message in `*error`.
std::shared_ptr<backend::Chain> made_of(const Napi::Array &list, std::string *error) {
  std::vector<backend::ChainFilter> filters;
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::Object given = list.Get(i).As<Napi::Object>();
    backend::ChainFilter filter;
    if (Napi::Value library = given.Get("library"); library.IsObject())
      filter.opening =
          cplugin::make_filter_place(CFilterWrap::Unwrap(library.As<Napi::Object>())->filter());
    else
      filter.filter = native_filter(given, error);
    if (filter.filter == nullptr && filter.opening == nullptr)
      return nullptr;
    filters.push_back(std::move(filter));
  }
  return std::make_shared<backend::Chain>(std::move(filters));
}

// setFilterDebugFlag(filter, flag, value): false if the filter has no such flag.
Napi::Value set_filter_debug_flag(const Napi::CallbackInfo &info) {
  const bool is_set = filters::set_debug_flag(info[0].As<Napi::String>(),
                                              info[1].As<Napi::String>(), info[2].ToNumber());
  return Napi::Boolean::New(info.Env(), is_set);
}

// makeChain([{ name, options, library }, …], sharedAs, log): { number, isNew, keepsState,
// opensReadonly, opensBehind, opensForAll }, or an error message. A library is a NativeCFilter.
// Clients meet the first filter. Threads that give the same `sharedAs` share the chain of the first
// of them, for which it is new; "": not shared. What filters log outside of clients' calls goes to
// the NativeLog, if there is one, here and in readyChain and dropChain.
Napi::Value make_chain(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  const std::string shared_as = info[1].As<Napi::String>();
  const host::LogScope log(LogWrap::target_of(info[2]));
  std::string error;
  bool is_new = false;
  const uint32_t number = shared_chains().hold(shared_as, [&] {
    is_new = true;
    return made_of(info[0].As<Napi::Array>(), &error);
  });
  if (number == 0)
    return Napi::String::New(env, error);
  const std::shared_ptr<backend::Chain> chain = shared_chains().find(number);
  Napi::Object facts = Napi::Object::New(env);
  facts.Set("number", number);
  facts.Set("isNew", is_new);
  facts.Set("keepsState", chain->keeps_state());
  facts.Set("opensReadonly", chain->opens_readonly(false));
  facts.Set("opensBehind", chain->has_opening_filters());
  facts.Set("opensForAll", chain->opens_for_all());
  return facts;
}

// readyChain(number, threadModel, log, hold): a promise. Called by the thread for which the chain
// is new, once what is behind it is ready, and before its first client. Its filters may block.
Napi::Value ready_chain(const Napi::CallbackInfo &info) {
  const std::shared_ptr<backend::Chain> chain = chain_of(info[0]);
  const int thread_model = info[1].As<Napi::Number>().Int32Value();
  return promise_blocking(
      info.Env(), "for a filter",
      [chain, thread_model, log = LogWrap::target_of(info[2])] {
        const host::LogScope scope(log);
        chain->get_ready(thread_model);
      },
      undefined, HoldWrap::hold_of(info[3]));
}

// isShutdownRequested(number): whether one of its filters has asked for the server's end.
Napi::Value is_shutdown_requested(const Napi::CallbackInfo &info) {
  const std::shared_ptr<backend::Chain> chain = chain_of(info[0]);
  return Napi::Boolean::New(info.Env(), chain != nullptr && chain->is_shutdown_requested());
}

// dropChain(number, log, hold): a promise. Called once by each thread that has made it, after its
// last client. Its filters may block.
Napi::Value drop_chain(const Napi::CallbackInfo &info) {
  const std::shared_ptr<backend::Chain> dropped =
      shared_chains().drop(info[0].As<Napi::Number>().Uint32Value());
  if (dropped == nullptr) // other threads still use it
    return promise_of_nothing(info.Env());
  return promise_blocking(
      info.Env(), "to end a filter",
      [dropped, log = LogWrap::target_of(info[1])] {
        const host::LogScope scope(log);
        dropped->end();
      },
      undefined, HoldWrap::hold_of(info[2]));
}

} // namespace

std::shared_ptr<backend::Chain> chain_of(const Napi::Value &number) {
  return number.IsNumber() ? shared_chains().find(number.As<Napi::Number>().Uint32Value())
                           : nullptr;
}

void define_chain_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("setFilterDebugFlag", Napi::Function::New(env, set_filter_debug_flag));
  exports.Set("makeChain", Napi::Function::New(env, make_chain));
  exports.Set("readyChain", Napi::Function::New(env, ready_chain));
  exports.Set("isShutdownRequested", Napi::Function::New(env, is_shutdown_requested));
  exports.Set("dropChain", Napi::Function::New(env, drop_chain));
}

} // namespace asyncnbd::addon
