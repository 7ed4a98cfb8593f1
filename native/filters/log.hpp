// What clients do is written to a file, in nbdkit's format, or given to a script.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: file, the path of one; appends: to it; script: commands for a shell, run for each line.
// Without file and script nothing is written. nullptr, with words in `*error`, if there is
// something else, a value does not fit, or the file cannot be opened.
std::unique_ptr<backend::Filter> make_log(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
