// See plugin_calls.hpp.
#include "addon/plugin_calls.hpp"

#include <optional>
#include <utility>

#include "addon/js_queue.hpp"
#include "addon/runtime.hpp"
#include "addon/script_bridge_wrap.hpp"
#include "addon/script_questions.hpp"
#include "backend/c_exports.hpp"
#include "host/log.hpp"
#include "host/no_client.hpp"

namespace asyncnbd::addon {

namespace {

Napi::Value block_sizes_to_js(Napi::Env env, const std::optional<backend::BlockSizes> &sizes) {
  if (!sizes)
    return env.Null();
  Napi::Array array = Napi::Array::New(env, 3);
  array.Set(0u, sizes->minimum);
  array.Set(1u, sizes->preferred);
  array.Set(2u, sizes->maximum);
  return array;
}

Napi::Object facts_to_js(Napi::Env env, const backend::Facts &facts) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("sizeBytes", Napi::BigInt::New(env, facts.size_bytes));
  object.Set("canWrite", facts.can_write);
  object.Set("canFlush", facts.can_flush);
  object.Set("isRotational", facts.is_rotational);
  object.Set("canTrim", facts.can_trim);
  object.Set("canZero", facts.zero != backend::Support::none);
  object.Set("canFastZero", facts.can_fast_zero);
  object.Set("canFua", facts.fua != backend::Support::none);
  object.Set("canMultiConn", facts.can_multi_conn);
  object.Set("canCache", facts.cache != backend::Support::none);
  object.Set("canExtents", facts.can_extents);
  object.Set("description", facts.description);
  object.Set("blockSizes", block_sizes_to_js(env, facts.block_sizes));
  return object;
}

// Runs `call` on the thread pool, and resolves with its result, converted by `to_js`.
template <typename Call, typename ToJs>
Napi::Value ask(Napi::Env env, const PluginClient &client, Call call, ToJs to_js) {
  using Result = decltype(call());
  auto result = std::make_shared<std::optional<Result>>();
  return promise_blocking(
      env, FOR_PLUGIN_CALL, [call, result] { *result = call(); },
      [result, to_js](Napi::Env env) -> Napi::Value { return to_js(env, **result); }, client.hold);
}

// A plugin in JavaScript, or other JavaScript behind native filters.
class ScriptBottom final : public backend::Bottom {
public:
  // `opened`: an export that is already open, or nullptr. `of_no_client` may be nullptr.
  ScriptBottom(host::CallContext &context, unsigned threads,
               std::unique_ptr<backend::Backend> opened, std::unique_ptr<ScriptQuestions> questions,
               std::shared_ptr<ScriptBottom> of_no_client)
      : context_(context), threads_(threads), opened_(std::move(opened)),
        questions_(std::move(questions)), of_no_client_(std::move(of_no_client)) {}
  ~ScriptBottom() override {
    if (opened_ != nullptr) // something failed before it was handed out
      opened_->close_unused();
  }

  host::CallContext &context() override { return context_; }
  const backend::Resources &resources() override { return addon::resources().of_backends; }
  backend::ThreadModel thread_model() override { return backend::ThreadModel::async; }
  unsigned threads() override { return threads_; }
  bool preconnect(bool readonly) override { return questions_->preconnect(readonly); }
  std::optional<std::vector<backend::ExportEntry>> list_exports(bool readonly) override {
    return questions_->list_exports(readonly);
  }
  std::optional<std::string> default_export(bool readonly) override {
    return questions_->default_export(readonly);
  }
  std::unique_ptr<backend::Backend> open(const std::string &name, bool readonly,
                                         backend::Submitter) override {
    return opened_ != nullptr ? std::move(opened_) : questions_->open(name, readonly);
  }
  std::shared_ptr<Bottom> of_no_client() override { return of_no_client_; }
  // Other clients that wait for this one's open for all then try it themselves.
  void give_up_opening() override {
    questions_->give_up();
    if (of_no_client_ != nullptr)
      of_no_client_->questions_->abandon();
  }

private:
  host::CallContext &context_;
  const unsigned threads_;
  std::unique_ptr<backend::Backend> opened_; // nullptr once it has been handed out
  const std::unique_ptr<ScriptQuestions> questions_;
  const std::shared_ptr<ScriptBottom> of_no_client_;
};

// For what a filter has opened for all clients.
std::shared_ptr<ScriptBottom> bottom_of_no_client(const PluginClient &client,
                                                  std::unique_ptr<ScriptQuestions> questions) {
  struct OfNoClient {
    OfNoClient(const PluginClient &client, std::unique_ptr<ScriptQuestions> questions)
        : context(*client.context),
          bottom(context, client.threads, nullptr, std::move(questions), nullptr) {}
    host::NoClient context;
    ScriptBottom bottom;
  };
  auto made = std::make_shared<OfNoClient>(client, std::move(questions));
  return {made, &made->bottom};
}

// From now on `answer` answers questions about what is behind the chain; see ScriptQuestions.
void set_script(PluginClient &client, ScriptBridgeWrap &script, const Napi::Function &answer,
                std::unique_ptr<backend::Backend> opened) {
  const Napi::Env env = answer.Env();
  const auto made = [&] {
    return std::make_shared<Napi::FunctionReference>(Napi::Persistent(answer));
  };
  client.answers = made();
  std::shared_ptr<ScriptBottom> of_no_client;
  if (client.chain && client.chain->opens_for_all()) {
    const std::shared_ptr<KeptFunctions> &kept = script.kept();
    kept->push_back(made());
    of_no_client = bottom_of_no_client(
        client, std::make_unique<ScriptQuestions>(env, kept->back(), script.bridge(), kept));
  }
  client.bottom = std::make_unique<ScriptBottom>(
      *client.context, client.threads, std::move(opened),
      std::make_unique<ScriptQuestions>(env, client.answers, script.bridge(), nullptr),
      std::move(of_no_client));
}

// The same, if the two arguments from `first` on, a bridge and `answer`, are given.
void set_script_of(const Napi::CallbackInfo &info, size_t first, PluginClient &client) {
  if (info[first].IsObject())
    set_script(client, *ScriptBridgeWrap::Unwrap(info[first].As<Napi::Object>()),
               info[first + 1].As<Napi::Function>(), nullptr);
}

std::optional<std::vector<backend::ExportEntry>> listed_by(PluginClient &client) {
  if (!client.chain)
    return client.bottom->list_exports(client.readonly);
  const auto lock = client.chain->serialize_calls(*client.bottom);
  return client.chain->front(*client.bottom).list_exports(client.readonly);
}

std::optional<std::string> default_of(PluginClient &client) {
  if (!client.chain)
    return client.bottom->default_export(client.readonly);
  const auto lock = client.chain->serialize_calls(*client.bottom);
  return client.chain->front(*client.bottom).default_export(client.readonly);
}

} // namespace

// preconnect(bridge, answer)
Napi::Value preconnect(const Napi::CallbackInfo &info, const SharedPluginClient &client) {
  set_script_of(info, 0, *client);
  return ask(
      info.Env(), *client,
      [client] {
        return client->chain ? client->chain->front(*client->bottom).preconnect(client->readonly)
                             : client->bottom->preconnect(client->readonly);
      },
      [client](Napi::Env env, bool welcome) {
        client->answers.reset();
        return Napi::Boolean::New(env, welcome);
      });
}

// listExports(bridge, answer)
Napi::Value list_exports(const Napi::CallbackInfo &info, const SharedPluginClient &client) {
  set_script_of(info, 0, *client);
  return ask(
      info.Env(), *client, [client] { return listed_by(*client); },
      [client](Napi::Env env, const std::optional<std::vector<backend::ExportEntry>> &entries) {
        client->answers.reset();
        if (!entries)
          return env.Null();
        Napi::Array list = Napi::Array::New(env, entries->size());
        for (size_t i = 0; i < entries->size(); i++) {
          Napi::Object entry = Napi::Object::New(env);
          entry.Set("name", (*entries)[i].name);
          entry.Set("description", (*entries)[i].description);
          list.Set(static_cast<uint32_t>(i), entry);
        }
        return Napi::Value(list);
      });
}

// defaultExport(bridge, answer)
Napi::Value default_export(const Napi::CallbackInfo &info, const SharedPluginClient &client) {
  set_script_of(info, 0, *client);
  return ask(
      info.Env(), *client, [client] { return default_of(*client); },
      [client](Napi::Env env, const std::optional<std::string> &name) -> Napi::Value {
        client->answers.reset();
        if (!name)
          return env.Null();
        return Napi::String::New(env, *name);
      });
}

namespace {

// Opens and prepares the client's export, behind the chain. False: it cannot be opened, and that
// has been logged.
bool open_backend(PluginClient &client, backend::Bottom &bottom, const std::string &name,
                  const std::string *disk, const backend::Wanted &wanted) {
  std::string error;
  if (client.chain) {
    client.backend = client.chain->open(bottom, {name, client.readonly, disk, wanted}, &error);
  } else {
    client.backend = backend::open_without_filters(bottom, name, client.readonly, wanted,
                                                   client.submitter, &error);
  }
  if (!error.empty())
    host::log_error("%s", error.c_str());
  return client.backend != nullptr;
}

Napi::Value opened_to_js(Napi::Env env, const PluginClient &client, const std::string &name) {
  Napi::Object result = facts_to_js(env, client.backend->facts());
  result.Set("name", name);
  return result;
}

// { description, blockSizes }
backend::Wanted wanted_of(const Napi::Value &given) {
  Napi::Object wanted = given.As<Napi::Object>();
  return {wanted.Get("description").As<Napi::Boolean>().Value(),
          wanted.Get("blockSizes").As<Napi::Boolean>().Value()};
}

} // namespace

// openExport(name, wanted, bridge, answer): { name, …facts }, null if it cannot be opened.
Napi::Value open_export(const Napi::CallbackInfo &info, const SharedPluginClient &client) {
  const std::string name = info[0].As<Napi::String>();
  set_script_of(info, 2, *client);
  return ask(
      info.Env(), *client,
      [client, name, wanted = wanted_of(info[1])]() -> std::optional<std::string> {
        const std::optional<std::string> canonical = name.empty() ? default_of(*client) : name;
        // Filters may have another name for "" than what is behind them.
        const bool asks_again = client->chain && client->chain->has_opening_filters();
        if (!canonical || !open_backend(*client, *client->bottom, asks_again ? name : *canonical,
                                        nullptr, wanted))
          return std::nullopt;
        return canonical;
      },
      [client](Napi::Env env, const std::optional<std::string> &name) -> Napi::Value {
        if (name)
          return opened_to_js(env, *client, *name);
        client->answers.reset();
        return env.Null();
      });
}

// Takes an export that a script has opened already, or opens when it is needed, for native filters
// that do not open it themselves.
Napi::Value adopt_export(const Napi::CallbackInfo &info, const SharedPluginClient &client) {
  Napi::Object facts = info[2].As<Napi::Object>();
  ScriptBridgeWrap &script = *ScriptBridgeWrap::Unwrap(info[0].As<Napi::Object>());
  std::unique_ptr<backend::Backend> opened;
  client->loop = client->chain == nullptr ? script.loop() : nullptr;
  if (info[1].IsNumber())
    opened = backend_of_script(script.bridge(), info[1].As<Napi::Number>(), facts);
  set_script(*client, script, facts.Get("answer").As<Napi::Function>(), std::move(opened));
  const std::string name = facts.Get("name").As<Napi::String>();
  return ask(
      info.Env(), *client,
      [client, name, disk = facts.Get("disk").As<Napi::String>().Utf8Value(),
       wanted = wanted_of(info[3])] {
        return open_backend(*client, *client->bottom, name, &disk, wanted);
      },
      [client, name](Napi::Env env, bool is_open) -> Napi::Value {
        return is_open ? opened_to_js(env, *client, name) : env.Null();
      });
}

// metaContexts(name): [{ name, bits, number }, …], null if the plugin failed.
Napi::Value meta_contexts(Napi::Env env, const SharedPluginClient &client,
                          const std::string &name) {
  return ask(
      env, *client,
      [client, name]() -> std::optional<std::vector<backend::ContextEntry>> {
        if (client->chain && client->chain->has_opening_filters()) // they know no contexts
          return std::vector<backend::ContextEntry>();
        // Ask about the export that will be opened.
        const std::optional<std::string> canonical = name.empty() ? default_of(*client) : name;
        if (!canonical)
          return std::nullopt;
        return backend::list_meta_contexts(*client->plugin, *client->context, client->readonly,
                                           *canonical);
      },
      [](Napi::Env env, const std::optional<std::vector<backend::ContextEntry>> &entries) {
        if (!entries)
          return env.Null();
        Napi::Array list = Napi::Array::New(env, entries->size());
        for (uint32_t i = 0; i < entries->size(); i++) {
          Napi::Object entry = Napi::Object::New(env);
          entry.Set("name", (*entries)[i].name);
          entry.Set("bits", (*entries)[i].bits);
          entry.Set("number", i + 1);
          list.Set(i, entry);
        }
        return Napi::Value(list);
      });
}

Napi::Value close_export(Napi::Env env, const SharedPluginClient &client) {
  return ask(
      env, *client,
      [client] {
        client->backend->close();
        client->backend.reset();
        client->context->export_name = nullptr;
        return true;
      },
      [client](Napi::Env env, bool) {
        client->answers.reset();
        return env.Undefined();
      });
}

} // namespace asyncnbd::addon
