// See multi_conn.hpp; multi_conn_group.hpp has who belongs together, multi_conn_flush.hpp a flush
// of others.
#include "filters/multi_conn.hpp"

#include <cerrno>
#include <chrono>
#include <memory>
#include <new>
#include <utility>

#include "filters/commands.hpp"
#include "filters/emulated_layer.hpp"
#include "filters/multi_conn_flush.hpp"
#include "filters/multi_conn_group.hpp"
#include "filters/shared_backend.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;
using backend::Support;

enum class MultiConnMode : uint8_t { as_plugin_can, emulate, plugin, disable, unsafe };

// What its layers share with it.
struct Shared {
  MultiConnMode mode;
  TrackDirty track;
  bool by_export_name;
  std::shared_ptr<Members> members = std::make_shared<Members>();
};

// A flush passes as it is, or is one of all members first. The state of a flush is the time when it
// began; other requests have none.
class MultiConnLayer final : public EmulatedLayer, private backend::Completer, private FlushOwner {
public:
  // `for_others`: what is below, if it emulates.
  MultiConnLayer(std::unique_ptr<Backend> opened, std::shared_ptr<Backend> for_others,
                 const Shared &shared, MultiConnMode mode, std::string name, base::Threads &threads)
      : EmulatedLayer(std::move(opened)), mode_(mode), track_(shared.track),
        emulates_(mode == MultiConnMode::emulate), name_(std::move(name)), members_(shared.members),
        threads_(threads), member_(std::make_shared<Member>(std::move(for_others))) {}

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    const uint32_t own_bytes = type == wire::NBD_CMD_FLUSH && emulates_ ? FlushOthers::bytes() : 0;
    return own_bytes + below().bytes_besides(type, length_bytes);
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
  void submit_flush(Request &request, Caller caller);
  void flush_own(Request &request, uint64_t time, Caller caller);
  void note_flushed(uint64_t time);
  void leave();

  void on_others_flushed(Request &request, uint64_t time, Caller caller) override {
    flush_own(request, time, caller);
  }
  void complete(Request &request, int error) override;
  void give_up(Request &request, int error) override;
  uint64_t end_of(Request &request);

  const MultiConnMode mode_;
  const TrackDirty track_;
  const bool emulates_;
  const std::string name_;
  const std::shared_ptr<Members> members_;
  base::Threads &threads_;
  const SharedMember member_;
  SharedGroup group_;      // once it is prepared
  bool is_member_ = false; // from then on, until it leaves
};

bool MultiConnLayer::collect(const backend::Wanted &wanted, backend::Facts *facts,
                             std::string *error) {
  if (!EmulatedLayer::collect(wanted, facts, error))
    return false;
  if (mode_ != MultiConnMode::plugin)
    facts->can_multi_conn = mode_ != MultiConnMode::disable && !facts->serializes_connections;
  if (emulates_) {
    // A durable write is a flush of all after it, which the emulation in front sends here.
    if (facts->fua == Support::native)
      facts->fua = Support::emulate;
    facts->call_limits.emulates_fua = false;
  }
  group_ = members_->join(name_, member_);
  is_member_ = true;
  return true;
}

// Others may be flushing what is below.
void MultiConnLayer::leave() {
  if (std::exchange(is_member_, false))
    members_->leave(group_, member_);
}

bool MultiConnLayer::finalize() {
  leave();
  return below().finalize();
}

void MultiConnLayer::close() {
  leave();
  below().close();
}

// On JavaScript's thread, maybe, which a flush that waits for an answer may need: that is given up.
// A flush that goes without it misses nothing.
void MultiConnLayer::close_unused() {
  if (std::exchange(is_member_, false)) {
    bool has_left = members_->leave_unused(group_, member_, std::chrono::milliseconds(0));
    while (!has_left) {
      below().give_up_unanswered();
      has_left = members_->leave_unused(group_, member_, backend::GIVE_UP_AGAIN_AFTER);
    }
  }
  below().close_unused();
}

// Whether it can leave something in a cache of the connection's. What has been read matters to a
// flush of all alone; and a write that is durable when it is answered does not.
bool MultiConnLayer::is_noted(const Request &request) const {
  switch (request.type) {
  case wire::NBD_CMD_READ:
  case wire::NBD_CMD_CACHE:
    return emulates_ && track_ == TrackDirty::connection;
  case wire::NBD_CMD_WRITE:
  case wire::NBD_CMD_TRIM:
  case wire::NBD_CMD_WRITE_ZEROES:
    return track_ != TrackDirty::off && (request.flags & wire::NBD_CMD_FLAG_FUA) == 0;
  default:
    return false;
  }
}

// When it is done: a flush that has begun before need not include it.
void MultiConnLayer::note(const Request &request) {
  const bool is_read = request.type == wire::NBD_CMD_READ || request.type == wire::NBD_CMD_CACHE;
  members_->tick([this, is_read](uint64_t time) {
    if (is_read) {
      member_->read.raise(time);
      return;
    }
    if (track_ == TrackDirty::connection)
      member_->written.raise(time);
    group_->written.raise(time);
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
    submit_flush(request, caller);
    return;
  }
  if (is_noted(request) && !request.completers.push(*this)) {
    refuse(request, ENOMEM);
    return;
  }
  below().submit(request, caller);
}

void MultiConnLayer::submit_flush(Request &request, Caller caller) {
  const uint64_t time = members_->now();
  std::vector<SharedMember> others;
  if (emulates_)
    others = members_->hold_others(*group_, *member_, track_);
  if (others.empty()) {
    flush_own(request, time, caller);
    return;
  }
  auto *flush = new (std::nothrow) FlushOthers(*this, members_, others, request, time, threads_);
  if (flush != nullptr) {
    flush->begin(caller);
    return;
  }
  members_->forget(others);
  refuse(request, ENOMEM);
}

void MultiConnLayer::flush_own(Request &request, uint64_t time, Caller caller) {
  const bool is_needed =
      emulates_ ? needs_flush(*group_, *member_, track_)
                : track_ == TrackDirty::off || group_->written.is_after(group_->flushed);
  if (!is_needed) {
    if (emulates_)
      note_flushed(time);
    request.complete(0);
    return;
  }
  if (!request.completers.push(*this, reinterpret_cast<void *>(static_cast<uintptr_t>(time)))) {
    refuse(request, ENOMEM);
    return;
  }
  below().submit(request, caller);
}

// By a flush that has succeeded.
void MultiConnLayer::note_flushed(uint64_t time) {
  if (emulates_) {
    member_->flushed.raise(time);
    group_->flushed.raise(time);
  } else if (track_ == TrackDirty::fast) {
    group_->flushed.raise(time);
  } else if (track_ == TrackDirty::connection) {
    if (below().facts().can_multi_conn)
      members_->note_flushed(*group_, time);
    else
      member_->flushed.raise(time);
  }
}

uint64_t MultiConnLayer::end_of(Request &request) {
  const auto time =
      static_cast<uint64_t>(reinterpret_cast<uintptr_t>(request.completers.pop(*this)));
  if (request.type != wire::NBD_CMD_FLUSH)
    note(request);
  return time;
}

void MultiConnLayer::complete(Request &request, int error) {
  const uint64_t time = end_of(request);
  if (request.type == wire::NBD_CMD_FLUSH && error == 0)
    note_flushed(time);
  request.complete(error);
}

void MultiConnLayer::give_up(Request &request, int error) {
  end_of(request);
  request.give_up(error);
}

// A flush for another may be in what is below, whose answer its client still waits for.
void MultiConnLayer::on_client_gone() {
  if (!members_->tell_gone_later(*member_))
    below().on_client_gone();
}

void MultiConnLayer::give_up_unanswered() {
  FlushOthers::abandon_all(*this, *members_);
  if (members_->give_up(*member_))
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

} // namespace

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

} // namespace asyncnbd::filters
