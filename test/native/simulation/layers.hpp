// What stands in front of the plugin of a simulated run: one of our filters, or nothing.
#pragma once

#include <memory>

#include "backend/backend.hpp"
#include "backend/filter.hpp"
#include "backend/resources.hpp"
#include "host/context.hpp"
#include "plan.hpp"

namespace simulation {

class Layers {
public:
  Layers(const Plan &plan, const asyncnbd::backend::Resources &resources);

  // In front of what is prepared, for one client.
  std::unique_ptr<asyncnbd::backend::Backend>
  open(std::unique_ptr<asyncnbd::backend::Backend> below, asyncnbd::host::CallContext &client);

private:
  std::unique_ptr<asyncnbd::backend::Filter> filter_; // nullptr: there is none
};

} // namespace simulation
