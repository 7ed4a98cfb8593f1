// See registry.hpp.
#include "filters/registry.hpp"

#include <algorithm>
#include <array>

namespace asyncnbd::filters {

namespace {

struct Entry {
  const char *name;
  FilterMaker *make;
};

constexpr auto ENTRIES = std::to_array<Entry>({
#define FILTER(name, make) {name, make},
#include "filters/registry.inc"
#undef FILTER
});

} // namespace

std::unique_ptr<backend::Filter> make_filter(const std::string &name, const FilterOptions &options,
                                             const backend::Resources &resources,
                                             std::string *error) {
  const auto *found = std::find_if(ENTRIES.begin(), ENTRIES.end(),
                                   [&name](const Entry &entry) { return name == entry.name; });
  if (found != ENTRIES.end())
    return found->make(options, resources, error);
  *error = "there is no filter " + name;
  return nullptr;
}

} // namespace asyncnbd::filters
