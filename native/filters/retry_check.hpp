// Whether an export that was opened anew can do what a client asks for. The client only knows what
// the export could do when it was opened first.
#pragma once

#include "backend/facts.hpp"
#include "backend/request.hpp"

namespace asyncnbd::filters {

// The error for a request that an export with these facts cannot do, the same as that of nbdkit's
// retry; 0: it can.
int error_of_lack(const backend::Request &request, const backend::Facts &can);

} // namespace asyncnbd::filters
