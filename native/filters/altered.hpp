// The common part of layers that change the facts of an export, and the flags of requests on their
// way down.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "filters/emulated_layer.hpp"

namespace asyncnbd::filters {

// Passes on every request and every reservation: a derived class that refuses some must also do so
// in `reserve`.
class AlteredLayer : public EmulatedLayer, private backend::Completer {
public:
  using EmulatedLayer::EmulatedLayer;

  backend::Reservation reserve(backend::Request &request) override;
  void unreserve(backend::Request &request) final { below().unreserve(request); }
  void submit(backend::Request &request, backend::Caller caller) override;

private:
  // Changes the facts of the backend below. False: it is not suitable; `*error` says why.
  virtual bool alter(backend::Facts *facts, std::string *error) const = 0;
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) final;
  // The flags of the request below. Not all flags that an export offers arrive there: layers above
  // handle the rest.
  virtual uint16_t flags_below(const backend::Request &request) const { return request.flags; }

  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  void restore(backend::Request &request);
};

} // namespace asyncnbd::filters
