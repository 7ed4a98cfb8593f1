// See registry.hpp.
#include "filters/registry.hpp"

#include "filters/cache.hpp"
#include "filters/cow.hpp"
#include "filters/delay.hpp"
#include "filters/error.hpp"
#include "filters/log.hpp"
#include "filters/rate.hpp"
#include "filters/readonly.hpp"

namespace asyncnbd::filters {

std::unique_ptr<backend::Filter> make_filter(const std::string &name, const FilterOptions &options,
                                             const backend::Resources &resources,
                                             std::string *error) {
  if (name == "cache")
    return make_cache(options, resources, error);
  if (name == "cow")
    return make_cow(options, resources, error);
  if (name == "delay")
    return make_delay(options, resources, error);
  if (name == "error")
    return make_error(options, resources, error);
  if (name == "log")
    return make_log(options, resources, error);
  if (name == "rate")
    return make_rate(options, resources, error);
  if (name == "readonly")
    return make_readonly(options, error);
  *error = "there is no filter " + name;
  return nullptr;
}

} // namespace asyncnbd::filters
