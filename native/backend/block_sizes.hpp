// Checks what plugins and nbdkit's filters say of their block sizes.
#pragma once

#include <optional>
#include <string>

#include "backend/facts.hpp"

namespace asyncnbd::backend {

// `whose`: the beginning of the line in the log. std::nullopt: they are none, which has been
// logged.
std::optional<BlockSizes> checked_block_sizes(const std::string &whose, const BlockSizes &sizes);

} // namespace asyncnbd::backend
