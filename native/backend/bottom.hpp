// The plugin behind a chain, in C or in a script, for one client: answers the handshake's questions
// and opens exports.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/resources.hpp"

namespace asyncnbd::host {
class CallContext;
}

namespace asyncnbd::backend {

struct ExportEntry {
  std::string name;
  std::string description; // empty: none
};

// Who submits requests to what a bottom opens: the connection's leader, which makes no more calls
// at once than the client has threads; or layers, on any number of threads.
enum class Submitter : uint8_t { leader, layers };

// Lives as long as its client. All functions may block, and log their failures. `readonly`: as the
// client or a filter wants.
class Bottom {
public:
  virtual ~Bottom() = default;

  // The client's context, which outlives what is opened for the client.
  virtual host::CallContext &context() = 0;
  virtual const Resources &resources() = 0;
  virtual ThreadModel thread_model() = 0;
  // How many calls at once the user allows on an export.
  virtual unsigned threads() = 0;

  // False: the client is turned away.
  virtual bool preconnect(bool readonly) = 0;
  // std::nullopt: the list failed.
  virtual std::optional<std::vector<ExportEntry>> list_exports(bool readonly) = 0;
  // The export for a client that asks for "". std::nullopt: no default export.
  virtual std::optional<std::string> default_export(bool readonly) = 0;
  // nullptr on failure. May be called again after the export that it opened has been closed.
  virtual std::unique_ptr<Backend> open(const std::string &export_name, bool readonly,
                                        Submitter submitter) = 0;
  // A bottom that belongs to no client, for what stays open when this client has left. nullptr:
  // none.
  virtual std::shared_ptr<Bottom> of_no_client() { return nullptr; }
  // Nobody waits for present or future opens any more. Any thread; must not block.
  virtual void give_up_opening() {}
};

} // namespace asyncnbd::backend
