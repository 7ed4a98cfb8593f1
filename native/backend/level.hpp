// What is behind a filter, for one client: the next filter of its chain, or the plugin.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/bottom.hpp"

namespace asyncnbd::backend {

class Chain;

// A place in a chain. The functions ask the filter that stands there, or the plugin. On failure
// `*error` has a message, or is empty if that has been logged.
struct Level {
  Chain *chain;
  size_t index; // of the filter that stands there; the number of filters means the plugin
  Bottom *bottom;

  bool preconnect(bool readonly) const;
  std::optional<std::vector<ExportEntry>> list_exports(bool readonly) const;
  std::optional<std::string> default_export(bool readonly) const;
  std::unique_ptr<Backend> open(const std::string &export_name, bool readonly,
                                std::string *error) const;

  // Whether the plugin, or a filter anywhere in the chain, can serve only one connection.
  bool serializes_connections() const;
  // Whether a filter stands there that opens what is behind it itself.
  bool opens_behind() const;
};

} // namespace asyncnbd::backend
