// See c_exports.hpp.
#include "backend/c_exports.hpp"

#include <cstring>

#include "host/contexts_list.hpp"
#include "host/exports_list.hpp"
#include "host/log.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::backend {

namespace {

// default_export without the lock and the context, also for use inside list_exports.
std::optional<std::string> ask_default_export(CPlugin &plugin, host::CallContext &context,
                                              bool readonly) {
  if (context.default_export)
    return context.default_export;
  if (plugin.table().default_export == nullptr)
    return "";
  const char *name = plugin.table().default_export(readonly, context.tls);
  if (name == nullptr)
    return std::nullopt;
  if (strlen(name) > wire::MAX_STRING_BYTES) {
    host::log_error("default_export gave a name longer than %zu bytes", wire::MAX_STRING_BYTES);
    return std::nullopt;
  }
  context.default_export = name;
  return name;
}

} // namespace

bool preconnect(CPlugin &plugin, host::CallContext &context, bool readonly) {
  host::ContextScope scope(&context);
  auto lock = plugin.serialize_calls();
  host::log_control("%s: preconnect", plugin.name().c_str());
  return plugin.table().preconnect == nullptr || plugin.table().preconnect(readonly) != -1;
}

std::optional<std::string> default_export(CPlugin &plugin, host::CallContext &context,
                                          bool readonly) {
  host::ContextScope scope(&context);
  auto lock = plugin.serialize_calls();
  host::log_control("%s: default_export readonly=%d tls=%d", plugin.name().c_str(), readonly,
                    context.tls);
  return ask_default_export(plugin, context, readonly);
}

std::optional<std::vector<ExportEntry>> list_exports(CPlugin &plugin, host::CallContext &context,
                                                     bool readonly) {
  host::ContextScope scope(&context);
  auto lock = plugin.serialize_calls();
  host::log_control("%s: list_exports readonly=%d tls=%d", plugin.name().c_str(), readonly,
                    context.tls);
  nbdkit_exports exports;
  if (plugin.table().list_exports == nullptr)
    exports.entries.push_back({"", std::nullopt, true});
  else if (plugin.table().list_exports(readonly, context.tls, &exports) == -1)
    return std::nullopt;

  std::vector<ExportEntry> entries;
  for (const nbdkit_exports::Entry &entry : exports.entries) {
    std::optional<std::string> name = entry.name;
    if (entry.is_default)
      name = ask_default_export(plugin, context, readonly);
    if (name)
      entries.push_back({*name, entry.description.value_or("")});
  }
  return entries;
}

std::optional<std::vector<ContextEntry>> list_meta_contexts(CPlugin &plugin,
                                                            host::CallContext &context,
                                                            bool readonly,
                                                            const std::string &export_name) {
  if (!plugin.is_async() || plugin.table().list_meta_contexts == nullptr ||
      plugin.table().async_block_status == nullptr)
    return std::vector<ContextEntry>();
  host::ContextScope scope(&context);
  auto lock = plugin.serialize_calls();
  host::log_control("%s: list_meta_contexts readonly=%d", plugin.name().c_str(), readonly);
  asyncnbd_meta_contexts contexts;
  if (plugin.table().list_meta_contexts(readonly, export_name.c_str(), &contexts) == -1)
    return std::nullopt;
  std::vector<ContextEntry> entries;
  for (const auto &[name, bits] : contexts.entries)
    entries.push_back({name, bits});
  return entries;
}

} // namespace asyncnbd::backend
