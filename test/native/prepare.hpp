// Backends of tests, before their first request.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "backend/backend.hpp"

inline void prepare(asyncnbd::backend::Backend &backend) {
  std::string error;
  REQUIRE(backend.prepare(asyncnbd::backend::WANTS_ALL, &error));
}
