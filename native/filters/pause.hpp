// Requests wait for as long as an operator wants.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Option: control, the path of a socket that is made for the operator. nullptr, with words in
// `*error`, if there is something else, or the socket cannot be made.
std::unique_ptr<backend::Filter>
make_pause(const FilterOptions &options, const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
