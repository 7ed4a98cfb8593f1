// The text of the log filter's lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/bottom.hpp"
#include "backend/request.hpp"

namespace asyncnbd::filters {

// "Read".
const char *log_action(uint16_t type);
// "offset=0x0 count=0x200".
std::string log_arguments(const backend::Request &request);
// "return=0", "return=-1 error=EIO", after the extents, if any.
std::string log_result(const backend::Request &request, int error);
std::string log_result(int error);
// `exports=("" other) return=0`.
std::string log_exports(const std::vector<backend::ExportEntry> &exports);
// The facts of an export that a client is told.
std::string log_facts(const std::string &export_name, bool is_tls, const backend::Facts &facts);

} // namespace asyncnbd::filters
