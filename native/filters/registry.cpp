// See registry.hpp.
#include "filters/registry.hpp"

namespace asyncnbd::filters {

// Written only by constructors of static variables; nothing looks for a filter before they have
// run.
constinit static const Registered *last = nullptr;

Registered::Registered(const char *name, FilterMaker *make) noexcept
    : name_(name), make_(make), next_(last) {
  last = this;
}

const Registered *Registered::find(const std::string &name) {
  const Registered *found = last;
  while (found != nullptr && name != found->name_)
    found = found->next_;
  return found;
}

std::unique_ptr<backend::Filter> make_filter(const std::string &name, const FilterOptions &options,
                                             const backend::Resources &resources,
                                             std::string *error) {
  if (const Registered *found = Registered::find(name))
    return found->make()(options, resources, error);
  *error = "there is no filter " + name;
  return nullptr;
}

} // namespace asyncnbd::filters
