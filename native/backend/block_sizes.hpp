// Checks the block sizes that plugins and nbdkit's filters report.
#pragma once

#include <optional>
#include <string>

#include "backend/facts.hpp"

namespace asyncnbd::backend {

// `whose`: the beginning of the line in the log. std::nullopt: they are invalid, and that has been
// logged.
std::optional<BlockSizes> checked_block_sizes(const std::string &whose, const BlockSizes &sizes);

} // namespace asyncnbd::backend
