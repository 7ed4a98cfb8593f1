// When holes are looked for before reads: where there may be some, and seldom where not.
#include <doctest/doctest.h>

#include "nbd/sparse_hint.hpp"

using asyncnbd::nbd::SparseHint;

namespace {

constexpr uint64_t READ_BYTES = 256 << 10;
constexpr uint64_t READS = 1024;
constexpr uint64_t SIZE = READS * READ_BYTES;

// How many of that many reads are worth it.
uint64_t asks(SparseHint &sense, uint64_t reads = READS) {
  uint64_t asked = 0;
  for (uint64_t i = 0; i < reads; i++)
    asked += sense.is_worth_asking(i % READS * READ_BYTES, READ_BYTES) ? 1 : 0;
  return asked;
}

} // namespace

TEST_CASE("if no hole is found, extents are asked for at first and then rarely") {
  SparseHint sense;
  CHECK(asks(sense, 4) == 4);
  CHECK(asks(sense, 60) == 0);
  CHECK(asks(sense) == READS / 64);
  sense.found_hole();
  CHECK(asks(sense, 4) == 4);
}

TEST_CASE("known data is rarely searched again") {
  SparseHint sense;
  sense.found_data(0, SIZE);
  CHECK(asks(sense) == 1);
  sense.found_data(0, SIZE / 2);
  CHECK(asks(sense) == READS / 2 / 64);
  sense.found_data(0, SIZE);
  sense.forget_data();
  CHECK(asks(sense) == READS / 64);
}

TEST_CASE("for a client that asks for extents itself it is rare from the start") {
  SparseHint sense;
  sense.client_has_asked();
  CHECK(asks(sense, 60) == 0);
  CHECK(asks(sense) == READS / 64);
  sense.found_hole();
  sense.found_hole();
  CHECK(asks(sense, 4) == 4);
}
