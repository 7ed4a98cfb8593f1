// See layers.hpp.
#include "layers.hpp"

#include <string>
#include <utility>

#include "fibers.hpp"
#include "filters/options.hpp"
#include "filters/registry.hpp"

namespace simulation {

using namespace asyncnbd;

Layers::Layers(const Plan &plan, const backend::Resources &resources) {
  if (plan.layer == LayerKind::none)
    return;
  std::string error;
  const auto delay_ms = static_cast<double>(plan.layer_delay_ms);
  filter_ = plan.layer == LayerKind::delay
                ? filters::make_filter("delay", {{"readMs", delay_ms}, {"writeMs", delay_ms}},
                                       resources, &error)
                : filters::make_filter("multi-conn", {}, resources, &error);
  if (filter_ == nullptr)
    fail("no filter: %s", error.c_str());
}

std::unique_ptr<backend::Backend> Layers::open(std::unique_ptr<backend::Backend> below,
                                               host::CallContext &client) {
  if (filter_ == nullptr)
    return below;
  static const std::string export_name;
  std::string error;
  std::unique_ptr<backend::Backend> opened =
      filter_->open(&below, {client, export_name, false}, nullptr, &error);
  if (opened == nullptr || !opened->prepare(backend::WANTS_ALL, &error))
    fail("a layer cannot be opened: %s", error.c_str());
  return opened;
}

} // namespace simulation
