// See registry.hpp.
#include "filters/registry.hpp"

#include "filters/readonly.hpp"

namespace asyncnbd::filters {

std::unique_ptr<backend::Filter> make_filter(const std::string &name, const FilterOptions &options,
                                             const backend::FilterResources &resources,
                                             std::string *error) {
  (void)resources;
  if (name == "readonly")
    return make_readonly(options, error);
  *error = "there is no filter " + name;
  return nullptr;
}

} // namespace asyncnbd::filters
