// Whether what has been opened anew can do what a client asks for, which was told of what had been
// open before.
#pragma once

#include "backend/facts.hpp"
#include "backend/request.hpp"

namespace asyncnbd::filters {

// The error of a request that it cannot do, as nbdkit's retry gives it; 0: it can.
int error_of_lack(const backend::Request &request, const backend::Facts &can);

} // namespace asyncnbd::filters
