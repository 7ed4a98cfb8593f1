// The filters that come with the server, by name. Each has a file, with its options and a
// Registered at the end.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// nullptr, with a message in `*error`, for an unknown name or wrong options. `resources` outlive
// the filter.
std::unique_ptr<backend::Filter> make_filter(const std::string &name, const FilterOptions &options,
                                             const backend::Resources &resources,
                                             std::string *error);

// Makes one kind of filter.
using FilterMaker = std::unique_ptr<backend::Filter>(const FilterOptions &options,
                                                     const backend::Resources &resources,
                                                     std::string *error);

// Makes a filter known from the start of the process. It is a static variable in the filter's file,
// so that no other file needs to know the filter.
class Registered {
public:
  Registered(const char *name, FilterMaker *make) noexcept;
  Registered(const Registered &) = delete;
  Registered &operator=(const Registered &) = delete;

  // nullptr: there is none of this name.
  static const Registered *find(const std::string &name);
  FilterMaker *make() const { return make_; }

private:
  const char *name_;
  FilterMaker *make_;
  const Registered *next_;
};

} // namespace asyncnbd::filters
