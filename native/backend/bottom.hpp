// What a chain stands in front of, for one client: a plugin, in C or in a script, as a handshake
// asks it.
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
// at once than the client has threads; or layers, and then who knows.
enum class Submitter : uint8_t { leader, layers };

// Lives as long as its client. All may block, and log their failures; `readonly`: the client's
// wish, or that of a filter.
class Bottom {
public:
  virtual ~Bottom() = default;

  // The client's, which outlives what is opened for it.
  virtual host::CallContext &context() = 0;
  virtual const Resources &resources() = 0;
  virtual ThreadModel thread_model() = 0;
  // Calls at once that the user allows on an export.
  virtual unsigned threads() = 0;

  // False: the client is turned away.
  virtual bool preconnect(bool readonly) = 0;
  // std::nullopt: the list failed.
  virtual std::optional<std::vector<ExportEntry>> list_exports(bool readonly) = 0;
  // What a client gets that asks for "". std::nullopt: there is no default export.
  virtual std::optional<std::string> default_export(bool readonly) = 0;
  // nullptr on failure. Again once what it has opened is closed.
  virtual std::unique_ptr<Backend> open(const std::string &export_name, bool readonly,
                                        Submitter submitter) = 0;
  // One that is no client's, for what stays open when this client has left. nullptr: there is none.
  virtual std::shared_ptr<Bottom> of_no_client() { return nullptr; }
  // Nobody waits for what is being opened any more, or will be. Any thread; must not block.
  virtual void give_up_opening() {}
};

} // namespace asyncnbd::backend
