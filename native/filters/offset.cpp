// Shows clients a part of an export.
#include <optional>
#include <utility>

#include "backend/request.hpp"
#include "filters/moved_layer.hpp"
#include "filters/registry.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;

class OffsetLayer final : public MovedLayer {
public:
  OffsetLayer(std::unique_ptr<Backend> opened, uint64_t offset, std::optional<uint64_t> range)
      : MovedLayer(std::move(opened)), offset_(offset), range_(range) {}

private:
  const char *filter_name() const override { return "offset"; }
  std::optional<DiskPart> find_part(const backend::Facts &below, std::string *error) override {
    if (backend::is_inside(offset_, range_.value_or(0), below.size_bytes))
      return DiskPart{offset_, range_.value_or(below.size_bytes - offset_)};
    *error = "filter offset: offset=" + std::to_string(offset_);
    if (range_)
      *error += " and range=" + std::to_string(*range_);
    *error += " do not fit in the export, which has " + std::to_string(below.size_bytes) + " bytes";
    return std::nullopt;
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

// Options: offset, the beginning of the part, 0 by default; range, its length, by default up to the
// end. nullptr, with a message in `*error`, for an unknown option or an invalid value.
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

const Registered registered_offset("offset", make_offset);

} // namespace

} // namespace asyncnbd::filters
