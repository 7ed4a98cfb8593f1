// Tells clients the extents that a file lists, instead of the plugin's.
#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <utility>
#include <vector>

#include "backend/layer.hpp"
#include "backend/sparse.hpp"
#include "filters/debug_flags.hpp"
#include "filters/extent_file.hpp"
#include "filters/registry.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::ContextStatus;
using backend::Request;
using backend::Reservation;

class ExtentlistLayer final : public backend::PassingLayer, private backend::Completer {
public:
  ExtentlistLayer(std::unique_ptr<Backend> opened, host::CallContext &context,
                  const std::vector<ListedExtent> &listed)
      : PassingLayer(std::move(opened)), context_(context), listed_(listed) {}

  // The plugin answers for other contexts.
  void submit(Request &request, backend::Caller caller) override {
    const bool is_status = request.type == wire::NBD_CMD_BLOCK_STATUS;
    if (is_status && has_no_other(request)) {
      tell(request);
      request.complete(0);
    } else if (is_status && !request.completers.push(*this)) {
      refuse(request, ENOMEM);
    } else {
      below().submit(request, caller);
    }
  }

private:
  // Reads get the plugin's data and its own holes only.
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override {
    if (!PassingLayer::collect(wanted, facts, error))
      return false;
    facts->can_extents = true;
    facts->has_sparse_reads = false; // the lookup would ask here
    return true;
  }

  static bool has_no_other(const Request &request) {
    return std::all_of(
        request.extras->statuses.begin(), request.extras->statuses.end(),
        [](const ContextStatus &status) { return status.context == ContextStatus::ALLOCATION; });
  }

  void tell(Request &request) const {
    for (ContextStatus &status : request.extras->statuses)
      if (status.context == ContextStatus::ALLOCATION)
        tell(request, status);
  }

  // The last extent may reach beyond the requested range.
  void tell(const Request &request, ContextStatus &status) const {
    const uint64_t end = request.offset + request.length_bytes;
    status.extents.clear();
    auto extent = std::upper_bound(
        listed_.begin(), listed_.end(), request.offset,
        [](uint64_t offset, const ListedExtent &listed) { return offset < listed.offset; });
    extent--; // the first one begins at 0
    for (uint64_t at = request.offset;
         extent != listed_.end() && at < end && status.extents.size() < wire::MAX_EXTENTS;
         extent++) {
      if (debug::extentlist_lookup.is_on())
        log_lookup(static_cast<size_t>(extent - listed_.begin()), end - at, at);
      const uint64_t extent_end = extent->offset + extent->length_bytes;
      append_extent(status.extents, extent_end - at, extent->flags);
      at = extent_end;
    }
    backend::cut_extents(status.extents, facts().size_bytes - request.offset);
  }

  void log_lookup(size_t index, uint64_t count, uint64_t offset) const {
    const host::ContextScope scope(&context_);
    host::log_debug("extentlist: lookup: extent[%zu] count=%" PRIu64 " offset=%" PRIu64, index,
                    count, offset);
  }

  void complete(Request &request, int error) override {
    request.completers.pop(*this);
    if (error == 0)
      tell(request);
    request.complete(error);
  }
  void give_up(Request &request, int error) override {
    request.completers.pop(*this);
    request.give_up(error);
  }

  host::CallContext &context_;
  const std::vector<ListedExtent> &listed_; // owned by the filter
};

class ExtentlistFilter final : public backend::Filter {
public:
  explicit ExtentlistFilter(std::vector<ListedExtent> listed) : listed_(std::move(listed)) {}

  const char *name() const override { return "extentlist"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    return std::make_unique<ExtentlistLayer>(std::move(*below), opening.context, listed_);
  }

private:
  const std::vector<ListedExtent> listed_;
};

void log_list(const std::vector<ListedExtent> &listed) {
  for (size_t i = 0; i < listed.size(); i++)
    host::log_debug("extentlist: extent[%zu] at offset %" PRIu64 " (length %" PRIu64
                    ") type %" PRIu64,
                    i, listed[i].offset, listed[i].length_bytes, listed[i].flags);
}

// Option: file, its path; it is read at once. nullptr, with a message in `*error`, if it cannot be
// read or contains anything but extents, or for an unknown option.
std::unique_ptr<backend::Filter> make_extentlist(const FilterOptions &options,
                                                 const backend::Resources &, std::string *error) {
  OptionReader reader("extentlist", options);
  const std::string path = reader.text("file");
  if (path.empty())
    reader.complain("file", "the path of a list of extents");
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  auto listed = read_extent_file(path, error);
  if (!listed)
    return nullptr;
  if (debug::extentlist_lookup.is_on())
    log_list(*listed);
  return std::make_unique<ExtentlistFilter>(std::move(*listed));
}

const Registered registered_extentlist("extentlist", make_extentlist);

} // namespace

} // namespace asyncnbd::filters
