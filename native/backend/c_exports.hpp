// The questions to a C plugin about a client before an export is open.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backend/bottom.hpp"
#include "backend/c_plugin.hpp"
#include "host/context.hpp"

namespace asyncnbd::backend {

// All may block, log their failures, and set `context` for the call.

// False: the plugin turns the client away.
bool preconnect(CPlugin &plugin, host::CallContext &context, bool readonly);

// std::nullopt: the list failed.
std::optional<std::vector<ExportEntry>> list_exports(CPlugin &plugin, host::CallContext &context,
                                                     bool readonly);

struct ContextEntry {
  std::string name;
  unsigned bits; // bits in a status
};

// The metadata contexts of an export besides base:allocation. std::nullopt: the plugin failed.
std::optional<std::vector<ContextEntry>> list_meta_contexts(CPlugin &plugin,
                                                            host::CallContext &context,
                                                            bool readonly,
                                                            const std::string &export_name);

// The export for a client that asks for "". std::nullopt: no default export.
std::optional<std::string> default_export(CPlugin &plugin, host::CallContext &context,
                                          bool readonly);

} // namespace asyncnbd::backend
