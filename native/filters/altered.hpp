// What layers share that say other things of an export than is true of what is below, and change
// the flags of requests on their way down.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "filters/emulated_layer.hpp"

namespace asyncnbd::filters {

// Passes on every request, and every reservation: a derived class that refuses some must say so in
// `reserve`, too.
class AlteredLayer : public EmulatedLayer, private backend::Completer {
public:
  using EmulatedLayer::EmulatedLayer;

  backend::Reservation reserve(backend::Request &request) override;
  void unreserve(backend::Request &request) final { below().unreserve(request); }
  void submit(backend::Request &request, backend::Caller caller) override;

private:
  // From what is below. False: that will not do, and why is in `*error`.
  virtual bool alter(backend::Facts *facts, std::string *error) const = 0;
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) final;
  // The flags that the request has below. It does not come there with all flags that an export
  // offers: what stands above does the rest.
  virtual uint16_t flags_below(const backend::Request &request) const { return request.flags; }

  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  void restore(backend::Request &request);
};

} // namespace asyncnbd::filters
