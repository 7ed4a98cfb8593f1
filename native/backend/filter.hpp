// A configured filter: makes the layers in front of plugins, one for each client, and the state
// that they share.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "backend/backend.hpp"
#include "backend/level.hpp"
#include "backend/resources.hpp"

namespace asyncnbd::backend {

// A filter's state of one disk for all its clients, from the first open to the server's end.
class DiskState {
public:
  virtual ~DiskState() = default;
};

// Opens what is behind a filter for its client, and prepares it. nullptr on failure, with a message
// in `*error` unless it has been logged. May block.
using OpenBehind = std::function<std::unique_ptr<Backend>(bool readonly, std::string *error)>;

// A client that opens an export, as a filter sees it.
struct Opening {
  host::CallContext &context; // outlives what is opened
  const std::string &export_name;
  bool is_readonly; // the client's wish
  // Opens what is behind again, after that has been closed.
  OpenBehind open_again{};
  // Nobody waits for that any more, now or later: makes it fail soon, unless it is in a call that
  // blocks.
  std::function<void()> give_up_opening{};
};

// Functions may block. On failure they leave a message in `*error`.
class Filter {
public:
  virtual ~Filter() = default;
  virtual const char *name() const = 0;

  // The most parallel model that it allows for the whole chain.
  virtual ThreadModel thread_model() const { return ThreadModel::async; }

  // Before the first client, the innermost filter first. `thread_model`: the number of the least
  // model of all.
  virtual void get_ready(int thread_model) { (void)thread_model; }
  // After the last client.
  virtual void end() {}

  // The handshake's questions before an export is open.
  virtual bool preconnect(const Level &behind, bool readonly) {
    return behind.preconnect(readonly);
  }
  virtual std::optional<std::vector<ExportEntry>> list_exports(const Level &behind, bool readonly) {
    return behind.list_exports(readonly);
  }
  virtual std::optional<std::string> default_export(const Level &behind, bool readonly) {
    return behind.default_export(readonly);
  }

  // Before anything behind it is opened. False: the client may not open this export.
  virtual bool admits(const Opening &opening, std::string *error) {
    (void)opening, (void)error;
    return true;
  }

  // Whether to open what is behind it read-only.
  virtual bool opens_readonly(bool is_readonly) const { return is_readonly; }

  // Whether what is behind it is opened once for all clients, and belongs to none. The filter
  // closes it, at its end at the latest.
  virtual bool opens_for_all() const { return false; }

  // Opens what is behind it, perhaps with several tries; `readonly`: how to open it.
  virtual std::unique_ptr<Backend> open_behind(const OpenBehind &open, const Opening &opening,
                                               bool readonly, std::string *error) {
    (void)opening;
    return open(readonly, error);
  }

  // Whether new_disk makes something: then clients of different disks must be told apart.
  virtual bool keeps_state() const { return false; }

  // What it wants to know of what is behind it, if it is asked for `wanted`.
  virtual Wanted wanted_of_below(const Wanted &wanted) const { return wanted; }

  // Once for each disk, when it is first opened; nullptr if nothing is to be kept, or on failure.
  virtual std::unique_ptr<DiskState> new_disk(const Facts &below, std::string *error) {
    (void)below, (void)error;
    return nullptr;
  }

  // Makes a layer in front of `below`, which is open and prepared. nullptr on failure; then
  // `*below` is untouched. `disk`: from new_disk; it outlives the layer.
  virtual std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const Opening &opening,
                                        DiskState *disk, std::string *error) = 0;
};

// A filter that opens what is behind it itself, perhaps by another name, later or again. Its calls
// may block.
class OpeningFilter : public Filter {
public:
  ThreadModel thread_model() const override = 0;
  // Tells what is behind it when there is no client. Before the first client.
  virtual void placed(const Level &behind) = 0;

  // The result is not prepared yet. If a failure has been logged, it needs no message.
  virtual std::unique_ptr<Backend> open_in_front(const Level &behind,
                                                 const std::string &export_name, bool readonly,
                                                 std::string *error) = 0;
  bool preconnect(const Level &behind, bool readonly) override = 0;
  std::optional<std::vector<ExportEntry>> list_exports(const Level &behind,
                                                       bool readonly) override = 0;
  std::optional<std::string> default_export(const Level &behind, bool readonly) override = 0;

private:
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *, const Opening &, DiskState *,
                                std::string *) final {
    return nullptr; // never asked
  }
};

} // namespace asyncnbd::backend
