// What filters share that are met as nbdkit's are: with an emulation in front, of what they cannot
// do.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "backend/emulate.hpp"
#include "backend/layer.hpp"

namespace asyncnbd::filters {

// It sees zeroing, caching and extents as what is below can serve them, as nbdkit's filters do, and
// leaves durable writes to what is there.
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

// With its emulation.
inline std::unique_ptr<backend::Backend> emulated(std::unique_ptr<EmulatedLayer> layer,
                                                  base::Threads &threads) {
  return std::make_unique<backend::Emulation>(std::move(layer), threads);
}

} // namespace asyncnbd::filters
