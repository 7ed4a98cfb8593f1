// Logs what clients do, to a file in nbdkit's format, or through a script.
#pragma once

#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "filters/options.hpp"

namespace asyncnbd::filters {

// Options: file, its path; appends: to the file, instead of replacing it; script: shell commands
// that are run for each line. Without file and script nothing is written. nullptr, with a message
// in `*error`, for an unknown option or an invalid value, or if the file cannot be opened.
std::unique_ptr<backend::Filter> make_log(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error);

} // namespace asyncnbd::filters
