// A place in a chain where one of nbdkit's filters stands.
#pragma once

#include <memory>

#include "backend/filter.hpp"
#include "cplugin/c_filter.hpp"

namespace asyncnbd::cplugin {

std::unique_ptr<backend::OpeningFilter> make_filter_place(std::shared_ptr<CFilter> filter);

} // namespace asyncnbd::cplugin
