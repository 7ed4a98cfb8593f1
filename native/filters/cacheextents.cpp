// Keeps the last answer about extents, for plugins that take long to find them.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <utility>
#include <vector>

#include "backend/layer.hpp"
#include "backend/sparse.hpp"
#include "filters/debug_flags.hpp"
#include "filters/registry.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::ContextStatus;
using backend::Extent;
using backend::Request;
using backend::Reservation;

// For one disk and all its clients. Nobody waits here: a thread that finds it in use asks the
// backend below, and keeps nothing.
class KeptExtents final : public backend::DiskState {
public:
  // Called before and after a change: earlier answers become invalid, and so do answers in between.
  void on_change() { changes_.fetch_add(1, std::memory_order_acq_rel); }
  uint64_t changes() const { return changes_.load(std::memory_order_acquire); }

  // The extents from `offset` on; false: not kept. `context`: the client's, also in keep.
  bool get(host::CallContext &context, uint64_t offset, std::vector<Extent> *extents) {
    const Turn turn(*this);
    const bool is_kept =
        turn.is_mine && changes_at_ == changes() && offset >= begin_ && offset < end_;
    if (debug::cacheextents_cache.is_on())
      log_lookup(context, offset, turn.is_mine, is_kept);
    if (!is_kept)
      return false;
    uint64_t before_bytes = offset - begin_;
    for (const Extent &extent : kept_) {
      const uint64_t left_out = std::min(before_bytes, extent.length_bytes);
      before_bytes -= left_out;
      append_extent(*extents, extent.length_bytes - left_out, extent.flags);
    }
    return true;
  }

  // `changes`: the count before the extents were asked for.
  void keep(host::CallContext &context, uint64_t changes, uint64_t offset,
            const std::vector<Extent> &extents) {
    const Turn turn(*this);
    if (!turn.is_mine)
      return;
    changes_at_ = changes;
    begin_ = end_ = offset;
    kept_ = extents;
    if (debug::cacheextents_cache.is_on())
      log_update(context, offset, extents);
    for (const Extent &extent : extents)
      end_ += extent.length_bytes;
  }

private:
  // The acquire pairs with the release of the previous owner.
  struct Turn {
    explicit Turn(KeptExtents &of)
        : kept(of), is_mine(!of.is_in_use_.test_and_set(std::memory_order_acquire)) {}
    ~Turn() {
      if (is_mine)
        kept.is_in_use_.clear(std::memory_order_release);
    }
    Turn(const Turn &) = delete;
    Turn &operator=(const Turn &) = delete;

    KeptExtents &kept;
    const bool is_mine;
  };

  void log_lookup(host::CallContext &context, uint64_t offset, bool is_mine, bool is_kept) const {
    const host::ContextScope scope(&context);
    const char *const words = is_kept ? "returning from cache" : "cache miss";
    if (is_mine)
      host::log_debug("cacheextents: offset=%" PRIu64 " start=%" PRIu64 " end=%" PRIu64 "%s: %s",
                      offset, begin_, end_, changes_at_ == changes() ? "" : " outdated", words);
    else
      host::log_debug("cacheextents: offset=%" PRIu64 " in use: %s", offset, words);
  }

  static void log_update(host::CallContext &context, uint64_t offset,
                         const std::vector<Extent> &extents) {
    const host::ContextScope scope(&context);
    for (const Extent &extent : extents) {
      host::log_debug("cacheextents: updating cache with: offset=%" PRIu64 " length=%" PRIu64
                      " type=%" PRIu64,
                      offset, extent.length_bytes, extent.flags);
      offset += extent.length_bytes;
    }
  }

  std::atomic<uint64_t> changes_{0}; // on the disk; each change counts twice
  std::atomic_flag is_in_use_;       // guards the rest
  uint64_t changes_at_ = 0;          // see keep
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
  std::vector<Extent> kept_;
};

// The state that is pushed with a block status: the count of changes, and whether its client has
// asked for only one extent.
class CacheextentsLayer final : public backend::PassingLayer, private backend::Completer {
public:
  CacheextentsLayer(std::unique_ptr<Backend> opened, host::CallContext &context, KeptExtents &kept)
      : PassingLayer(std::move(opened)), context_(context), kept_(kept) {}

  void submit(Request &request, backend::Caller caller) override {
    if (wire::is_change(request.type))
      submit_change(request, caller);
    else if (!is_kept_kind(request))
      below().submit(request, caller);
    else if (kept_.get(context_, request.offset, &request.extras->statuses.front().extents))
      request.complete(0);
    else
      submit_status(request, caller);
  }

private:
  // Nothing is kept of other contexts.
  static bool is_kept_kind(const Request &request) {
    return request.type == wire::NBD_CMD_BLOCK_STATUS && request.extras->statuses.size() == 1 &&
           request.extras->statuses.front().context == ContextStatus::ALLOCATION;
  }

  void submit_change(Request &request, backend::Caller caller) {
    kept_.on_change();
    if (request.completers.push(*this))
      below().submit(request, caller);
    else
      refuse(request, ENOMEM);
  }

  // The backend below may answer with as many extents as it likes.
  void submit_status(Request &request, backend::Caller caller) {
    const bool only_one = (request.flags & wire::NBD_CMD_FLAG_REQ_ONE) != 0;
    const auto state = static_cast<uintptr_t>(kept_.changes() << 1 | (only_one ? 1 : 0));
    if (!request.completers.push(*this, reinterpret_cast<void *>(state))) {
      refuse(request, ENOMEM);
      return;
    }
    request.flags &= static_cast<uint16_t>(~wire::NBD_CMD_FLAG_REQ_ONE);
    below().submit(request, caller);
  }

  void complete(Request &request, int error) override {
    const uint64_t changes = restore(request);
    if (request.type == wire::NBD_CMD_BLOCK_STATUS && error == 0)
      kept_.keep(context_, changes, request.offset, request.extras->statuses.front().extents);
    request.complete(error);
  }
  void give_up(Request &request, int error) override {
    restore(request);
    request.give_up(error);
  }

  // Returns the count of changes.
  uint64_t restore(Request &request) {
    const auto state = reinterpret_cast<uintptr_t>(request.completers.pop(*this));
    if (wire::is_change(request.type))
      kept_.on_change();
    else if ((state & 1) != 0)
      request.flags |= wire::NBD_CMD_FLAG_REQ_ONE;
    return state >> 1;
  }

  host::CallContext &context_;
  KeptExtents &kept_;
};

class CacheextentsFilter final : public backend::Filter {
public:
  const char *name() const override { return "cacheextents"; }
  bool keeps_state() const override { return true; }

  std::unique_ptr<backend::DiskState> new_disk(const backend::Facts &, std::string *) override {
    return std::make_unique<KeptExtents>();
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *disk, std::string *) override {
    return std::make_unique<CacheextentsLayer>(std::move(*below), opening.context,
                                               static_cast<KeptExtents &>(*disk));
  }
};

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_cacheextents(const FilterOptions &options,
                                                   const backend::Resources &, std::string *error) {
  *error = OptionReader("cacheextents", options).error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<CacheextentsFilter>();
}

const Registered registered_cacheextents("cacheextents", make_cacheextents);

} // namespace

} // namespace asyncnbd::filters
