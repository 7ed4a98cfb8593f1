// The common part of filters that, like nbdkit's, have an emulation in front of them.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "backend/emulate.hpp"
#include "backend/layer.hpp"

namespace asyncnbd::filters {

// It gets only zeroing, caching and extents that the backend below supports, as nbdkit's filters
// do, and leaves durable writes to that backend.
class EmulatedLayer : public backend::Layer {
public:
  using Layer::Layer;

protected:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override {
    if (!Layer::collect(wanted, facts, error))
      return false;
    facts->call_limits = {};
    facts->call_limits.emulates_fua = true;
    return true;
  }
};

// Puts the emulation in front.
inline std::unique_ptr<backend::Backend> emulated(std::unique_ptr<EmulatedLayer> layer,
                                                  base::Threads &threads) {
  return std::make_unique<backend::Emulation>(std::move(layer), threads);
}

} // namespace asyncnbd::filters
