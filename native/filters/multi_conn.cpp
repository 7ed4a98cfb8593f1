// Makes a flush of one connection a flush of all, so that a program may use several connections.
// Each of them is a client here: multi_conn_group.hpp knows which belong together,
// multi_conn_client.hpp carries out a client's flush.
#include <cerrno>
#include <chrono>
#include <memory>
#include <utility>

#include "filters/emulated_layer.hpp"
#include "filters/multi_conn_client.hpp"
#include "filters/multi_conn_flush.hpp"
#include "filters/multi_conn_group.hpp"
#include "filters/registry.hpp"
#include "filters/shared_backend.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;
using backend::Support;

enum class MultiConnMode : uint8_t { as_plugin_can, emulate, plugin, disable, unsafe };

// What the filter shares with its layers.
struct Shared {
  MultiConnMode mode;
  TrackDirty track;
  bool by_export_name;
  std::shared_ptr<Members> members = std::make_shared<Members>();
};

// Notes what a client's requests do; ClientFlushes carries out its flushes.
class MultiConnLayer final : public EmulatedLayer, private backend::Completer {
public:
  // `for_others`: the backend below, if the mode is emulate; otherwise nullptr.
  MultiConnLayer(std::unique_ptr<Backend> opened, std::shared_ptr<Backend> for_others,
                 const Shared &shared, MultiConnMode mode, std::string name, base::Threads &threads)
      : EmulatedLayer(std::move(opened)), mode_(mode),
        name_(std::move(name)), client_{mode == MultiConnMode::emulate, shared.track,
                                        shared.members,
                                        std::make_shared<Member>(std::move(for_others)), nullptr},
        flushes_(below(), client_, threads) {}

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    const bool is_for_others = type == wire::NBD_CMD_FLUSH && client_.flushes_all;
    return (is_for_others ? FlushOthers::bytes() : 0) + below().bytes_besides(type, length_bytes);
  }

  bool finalize() override;
  Reservation reserve(Request &request) override;
  void unreserve(Request &request) override { below().unreserve(request); }
  void submit(Request &request, Caller caller) override;
  void on_client_gone() override;
  void give_up_unanswered() override;
  void close() override;
  void close_unused() override;

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;
  bool is_noted(const Request &request) const;
  void note(const Request &request);
  void leave();

  void complete(Request &request, int error) override;
  void give_up(Request &request, int error) override;

  const MultiConnMode mode_;
  const std::string name_;
  Membership client_;
  bool is_member_ = false; // from collect until it leaves
  ClientFlushes flushes_;
};

bool MultiConnLayer::collect(const backend::Wanted &wanted, backend::Facts *facts,
                             std::string *error) {
  if (!EmulatedLayer::collect(wanted, facts, error))
    return false;
  if (mode_ != MultiConnMode::plugin)
    facts->can_multi_conn = mode_ != MultiConnMode::disable && !facts->serializes_connections;
  if (client_.flushes_all) {
    // A durable write needs a flush of all after it, which the emulation in front sends here.
    if (facts->fua == Support::native)
      facts->fua = Support::emulate;
    facts->call_limits.emulates_fua = false;
  }
  client_.group = client_.members->join(name_, client_.member);
  is_member_ = true;
  return true;
}

// Waits, as others may be flushing the backend below.
void MultiConnLayer::leave() {
  if (std::exchange(is_member_, false))
    client_.members->leave(client_.group, client_.member);
}

bool MultiConnLayer::finalize() {
  leave();
  return below().finalize();
}

void MultiConnLayer::close() {
  leave();
  below().close();
}

// This may be JavaScript's thread. A flush for others that is in progress here may need that thread
// for its answer, so it is given up. Flushes that leave this client out miss nothing.
void MultiConnLayer::close_unused() {
  if (std::exchange(is_member_, false)) {
    Members &members = *client_.members;
    bool has_left =
        members.leave_unused(client_.group, client_.member, std::chrono::milliseconds(0));
    while (!has_left) {
      below().give_up_unanswered();
      has_left = members.leave_unused(client_.group, client_.member, backend::GIVE_UP_AGAIN_AFTER);
    }
  }
  below().close_unused();
}

// Whether the request may leave something in a cache of the connection. Reads matter only if a
// flush is one of all; a write that is durable when it is answered does not matter.
bool MultiConnLayer::is_noted(const Request &request) const {
  switch (request.type) {
  case wire::NBD_CMD_READ:
  case wire::NBD_CMD_CACHE:
    return client_.flushes_all && client_.track == TrackDirty::connection;
  case wire::NBD_CMD_WRITE:
  case wire::NBD_CMD_TRIM:
  case wire::NBD_CMD_WRITE_ZEROES:
    return client_.track != TrackDirty::off && (request.flags & wire::NBD_CMD_FLAG_FUA) == 0;
  default:
    return false;
  }
}

// Called when the request is done: a flush that began before that need not include it.
void MultiConnLayer::note(const Request &request) {
  const bool is_read = request.type == wire::NBD_CMD_READ || request.type == wire::NBD_CMD_CACHE;
  client_.members->tick([this, is_read](uint64_t time) {
    if (is_read) {
      client_.member->read.raise(time);
      return;
    }
    if (client_.track == TrackDirty::connection)
      client_.member->written.raise(time);
    client_.group->written.raise(time);
  });
}

Reservation MultiConnLayer::reserve(Request &request) {
  const Reservation reservation = below().reserve(request);
  if (request.type == wire::NBD_CMD_READ && reservation.data != nullptr && is_noted(request))
    note(request); // it may be done already
  return reservation;
}

void MultiConnLayer::submit(Request &request, Caller caller) {
  if (request.type == wire::NBD_CMD_FLUSH) {
    flushes_.submit(request, caller);
    return;
  }
  if (is_noted(request) && !request.completers.push(*this)) {
    refuse(request, ENOMEM);
    return;
  }
  below().submit(request, caller);
}

void MultiConnLayer::complete(Request &request, int error) {
  request.completers.pop(*this);
  note(request);
  request.complete(error);
}

void MultiConnLayer::give_up(Request &request, int error) {
  request.completers.pop(*this);
  note(request);
  request.give_up(error);
}

// A flush for another client may be in progress below, and that client still waits for its answer.
void MultiConnLayer::on_client_gone() {
  if (!client_.members->tell_gone_later(*client_.member))
    below().on_client_gone();
}

void MultiConnLayer::give_up_unanswered() {
  flushes_.abandon_others();
  if (client_.members->give_up(*client_.member))
    below().on_client_gone();
  below().give_up_unanswered();
}

class MultiConnFilter final : public backend::Filter {
public:
  MultiConnFilter(Shared shared, base::Threads &threads)
      : shared_(std::move(shared)), threads_(threads) {}

  const char *name() const override { return "multi-conn"; }

  void get_ready(int thread_model) override {
    const int serialize_connections = static_cast<int>(backend::ThreadModel::serialize_connections);
    if (shared_.mode == MultiConnMode::as_plugin_can && thread_model == serialize_connections)
      shared_.mode = MultiConnMode::disable;
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *error) override {
    const backend::Facts &can = (*below)->facts();
    MultiConnMode mode = shared_.mode;
    if (mode == MultiConnMode::as_plugin_can)
      mode = can.can_multi_conn ? MultiConnMode::plugin : MultiConnMode::emulate;
    if (mode == MultiConnMode::emulate && !can.can_flush) {
      *error = "filter multi-conn: it can flush all connections together only where the plugin can "
               "flush, and this export cannot; use multi-conn-mode=disable";
      return nullptr;
    }
    std::shared_ptr<Backend> for_others;
    if (mode == MultiConnMode::emulate) {
      for_others = std::move(*below);
      *below = std::make_unique<SharedBackend>(for_others);
    }
    return emulated(std::make_unique<MultiConnLayer>(
                        std::move(*below), std::move(for_others), shared_, mode,
                        shared_.by_export_name ? opening.export_name : "", threads_),
                    threads_);
  }

private:
  Shared shared_; // its mode is settled before the first client
  base::Threads &threads_;
};

// Options: mode, "auto" (by default), "emulate", "plugin", "disable" or "unsafe"; trackDirty,
// "connection" (by default), "fast" or "off"; byExportName, whether only clients of the same export
// name belong together. nullptr, with a message in `*error`, for an unknown option or an invalid
// value.
std::unique_ptr<backend::Filter> make_multi_conn(const FilterOptions &options,
                                                 const backend::Resources &resources,
                                                 std::string *error) {
  OptionReader reader("multi-conn", options);
  Shared shared;
  shared.mode =
      reader.choice<MultiConnMode>("mode", {"auto", "emulate", "plugin", "disable", "unsafe"});
  shared.track = reader.choice<TrackDirty>("trackDirty", {"connection", "fast", "off"});
  shared.by_export_name = reader.boolean("byExportName", false);
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<MultiConnFilter>(std::move(shared), resources.threads);
}

const Registered registered_multi_conn("multi-conn", make_multi_conn);

} // namespace

} // namespace asyncnbd::filters
