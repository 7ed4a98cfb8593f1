// Every check that a request from the ring must pass before a backend sees it.
#pragma once

#include <cstdint>

#include "backend/facts.hpp"
#include "layout.hpp"

namespace ring {

// What the client is told: Welcome::offers.
uint32_t offers_of(const asyncnbd::backend::Facts &facts);

// 0, or the errno the client gets instead.
int check(const RequestEntry &entry, const asyncnbd::backend::Facts &facts);

// Of a command that passes.
bool moves_data(uint16_t type);

} // namespace ring
