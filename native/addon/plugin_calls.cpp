// See plugin_calls.hpp.
#include "addon/plugin_calls.hpp"

#include <optional>

#include "addon/js_queue.hpp"
#include "addon/runtime.hpp"
#include "backend/c_exports.hpp"

namespace asyncnbd::addon {

namespace {

Napi::Value capabilities_to_js(Napi::Env env, const backend::Capabilities &capabilities) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("sizeBytes", Napi::BigInt::New(env, capabilities.size_bytes));
  object.Set("canWrite", capabilities.can_write);
  object.Set("canFlush", capabilities.can_flush);
  object.Set("isRotational", capabilities.is_rotational);
  object.Set("canTrim", capabilities.can_trim);
  object.Set("canZero", capabilities.zero != backend::Support::none);
  object.Set("canFastZero", capabilities.can_fast_zero);
  object.Set("canFua", capabilities.fua != backend::Support::none);
  object.Set("canMultiConn", capabilities.can_multi_conn);
  object.Set("canCache", capabilities.cache != backend::Support::none);
  object.Set("canExtents", capabilities.can_extents);
  return object;
}

// Runs `call` on the thread pool and resolves with what `to_js` makes of its result.
template <typename Call, typename ToJs> Napi::Value ask(Napi::Env env, Call call, ToJs to_js) {
  using Result = decltype(call());
  auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  auto result = std::make_shared<std::optional<Result>>();
  run_blocking(
      env, [call, result] { *result = call(); },
      [deferred, result, to_js](Napi::Env env, bool ran) {
        if (ran)
          deferred->Resolve(to_js(env, **result));
        else
          deferred->Reject(
              Napi::Error::New(env, "cannot start a thread for a plugin call").Value());
      });
  return deferred->Promise();
}

} // namespace

Napi::Value preconnect(Napi::Env env, const SharedPluginClient &client) {
  return ask(
      env,
      [client] {
        return backend::preconnect(*client->plugin, *client->connection, client->readonly);
      },
      [](Napi::Env env, bool welcome) { return Napi::Boolean::New(env, welcome); });
}

Napi::Value list_exports(Napi::Env env, const SharedPluginClient &client) {
  return ask(
      env,
      [client] {
        return backend::list_exports(*client->plugin, *client->connection, client->readonly);
      },
      [](Napi::Env env, const std::optional<std::vector<backend::ExportEntry>> &entries) {
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

Napi::Value default_export(Napi::Env env, const SharedPluginClient &client) {
  return ask(
      env,
      [client] {
        return backend::default_export(*client->plugin, *client->connection, client->readonly);
      },
      [](Napi::Env env, const std::optional<std::string> &name) -> Napi::Value {
        if (!name)
          return env.Null();
        return Napi::String::New(env, *name);
      });
}

// openExport(name): { name, …capabilities }, null if it cannot be opened.
Napi::Value open_export(Napi::Env env, const SharedPluginClient &client, const std::string &name) {
  return ask(
      env,
      [client, name]() -> std::optional<std::string> {
        connection::Connection &context = *client->connection;
        std::optional<std::string> canonical = name;
        if (name.empty())
          canonical = backend::default_export(*client->plugin, context, client->readonly);
        if (!canonical)
          return std::nullopt;
        context.export_name = context.interns.add(*canonical);
        client->backend =
            backend::CBackend::open(*client->plugin, context, client->threads, client->readonly);
        if (client->backend == nullptr)
          return std::nullopt;
        return canonical;
      },
      [client](Napi::Env env, const std::optional<std::string> &name) -> Napi::Value {
        if (!name)
          return env.Null();
        Napi::Object result =
            capabilities_to_js(env, client->backend->capabilities()).As<Napi::Object>();
        result.Set("name", *name);
        return result;
      });
}

Napi::Value export_description(Napi::Env env, const SharedPluginClient &client) {
  return ask(
      env, [client] { return client->backend->description(); },
      [](Napi::Env env, const std::string &text) { return Napi::String::New(env, text); });
}

// metaContexts(name): [{ name, bits, number }, …], null if the plugin failed.
Napi::Value meta_contexts(Napi::Env env, const SharedPluginClient &client,
                          const std::string &name) {
  return ask(
      env,
      [client, name] {
        return backend::list_meta_contexts(*client->plugin, *client->connection, client->readonly,
                                           name);
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

// blockSizes(): [minimum, preferred, maximum] in bytes, null if the plugin failed.
Napi::Value block_sizes(Napi::Env env, const SharedPluginClient &client) {
  return ask(
      env,
      [client]() -> std::optional<backend::BlockSizes> {
        backend::BlockSizes sizes;
        if (!client->backend->block_sizes(&sizes))
          return std::nullopt;
        return sizes;
      },
      [](Napi::Env env, const std::optional<backend::BlockSizes> &sizes) -> Napi::Value {
        if (!sizes)
          return env.Null();
        Napi::Array array = Napi::Array::New(env, 3);
        array.Set(0u, sizes->minimum);
        array.Set(1u, sizes->preferred);
        array.Set(2u, sizes->maximum);
        return array;
      });
}

Napi::Value close_export(Napi::Env env, const SharedPluginClient &client) {
  return ask(
      env,
      [client] {
        client->backend->close();
        client->backend.reset();
        client->connection->export_name = nullptr;
        return true;
      },
      [](Napi::Env env, bool) { return env.Undefined(); });
}

} // namespace asyncnbd::addon
