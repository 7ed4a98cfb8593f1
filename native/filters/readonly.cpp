// Clients can only read; the export below is opened read-only too.
#include <cerrno>
#include <utility>

#include "backend/layer.hpp"
#include "filters/registry.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Request;
using backend::Reservation;

class ReadonlyLayer final : public backend::Layer {
public:
  using Layer::Layer;

  Reservation reserve(Request &request) override {
    return wire::is_change(request.type) ? Reservation{} : below().reserve(request);
  }

  // Clients have been told; this is for layers in front that ignore it.
  void submit(Request &request, backend::Caller caller) override {
    if (wire::is_change(request.type))
      request.complete(EROFS);
    else
      below().submit(request, caller);
  }

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override {
    if (!Layer::collect(wanted, facts, error))
      return false;
    facts->can_write = false;
    facts->can_trim = false;
    facts->can_fast_zero = false;
    facts->zero = backend::Support::none;
    facts->fua = backend::Support::none;
    return true;
  }
};

class ReadonlyFilter final : public backend::Filter {
public:
  const char *name() const override { return "readonly"; }
  bool opens_readonly(bool) const override { return true; }
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    return std::make_unique<ReadonlyLayer>(std::move(*below));
  }
};

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_readonly(const FilterOptions &options,
                                               const backend::Resources &, std::string *error) {
  *error = OptionReader("readonly", options).error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<ReadonlyFilter>();
}

const Registered registered_readonly("readonly", make_readonly);

} // namespace

} // namespace asyncnbd::filters
