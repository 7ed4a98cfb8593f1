// See offset.hpp.
#include "filters/offset.hpp"

#include <cerrno>
#include <optional>
#include <utility>

#include "backend/layer.hpp"
#include "backend/sparse.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Request;
using backend::Reservation;

class OffsetLayer final : public backend::Layer, private backend::Completer {
public:
  OffsetLayer(std::unique_ptr<Backend> opened, uint64_t offset, std::optional<uint64_t> range)
      : Layer(std::move(opened)), offset_(offset), range_(range) {}

  Reservation reserve(Request &request) override {
    move(request, offset_);
    const Reservation reservation = below().reserve(request);
    move(request, -offset_);
    return reservation;
  }
  void unreserve(Request &request) override {
    move(request, offset_);
    below().unreserve(request);
    move(request, -offset_);
  }

  void submit(Request &request, backend::Caller caller) override {
    if (!request.completers.push(*this)) {
      refuse(request, ENOMEM);
      return;
    }
    move(request, offset_);
    below().submit(request, caller);
  }

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override {
    if (!Layer::collect(wanted, facts, error))
      return false;
    if (!backend::is_inside(offset_, range_.value_or(0), facts->size_bytes)) {
      *error = "filter offset: offset=" + std::to_string(offset_);
      if (range_)
        *error += " and range=" + std::to_string(*range_);
      *error +=
          " do not fit in the export, which has " + std::to_string(facts->size_bytes) + " bytes";
      return false;
    }
    facts->size_bytes = range_.value_or(facts->size_bytes - offset_);
    return true;
  }

  void complete(Request &request, int error) override {
    request.completers.pop(*this);
    move(request, -offset_);
    // What is behind the part is none of its clients' business.
    if (request.type == wire::NBD_CMD_BLOCK_STATUS)
      for (backend::ContextStatus &status : request.extras->statuses)
        backend::cut_extents(status.extents, facts().size_bytes - request.offset);
    request.complete(error);
  }
  void give_up(Request &request, int error) override {
    request.completers.pop(*this);
    move(request, -offset_);
    request.give_up(error);
  }

  // With all that has an offset of its own. `by` may be the complement of one.
  static void move(Request &request, uint64_t by) {
    request.offset += by;
    if (request.data_until > 0)
      request.data_until += by;
    if (!request.extras)
      return;
    if (request.extras->error_offset)
      *request.extras->error_offset += by;
    if (request.extras->runs)
      for (backend::Run &run : *request.extras->runs)
        run.offset += by;
  }

  const uint64_t offset_;
  const std::optional<uint64_t> range_;
};

class OffsetFilter final : public backend::Filter {
public:
  OffsetFilter(uint64_t offset, std::optional<uint64_t> range) : offset_(offset), range_(range) {}

  const char *name() const override { return "offset"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    return std::make_unique<OffsetLayer>(std::move(*below), offset_, range_);
  }

private:
  const uint64_t offset_;
  const std::optional<uint64_t> range_;
};

} // namespace

std::unique_ptr<backend::Filter> make_offset(const FilterOptions &options,
                                             const backend::Resources &, std::string *error) {
  OptionReader reader("offset", options);
  const uint64_t offset = reader.number("offset", 0, INT64_MAX);
  const auto range = reader.optional_number("range", INT64_MAX);
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<OffsetFilter>(offset, range);
}

} // namespace asyncnbd::filters
