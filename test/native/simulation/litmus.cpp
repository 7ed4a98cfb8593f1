// See litmus.hpp. Compiled as the sources under test are.
#include "litmus.hpp"

#include <atomic>

#include "fibers.hpp"

namespace simulation {

namespace {

constexpr uint64_t SEEDS = 200;

// Whether both have looked too early. The order is a constant: GCC takes any other for sequentially
// consistent.
template <std::memory_order order> bool both_miss(uint64_t seed) {
  begin_run(seed, {.switch_one_in = 2, .delay_store_one_in = 2});
  std::atomic<int> flags[2] = {0, 0};
  int seen[2] = {1, 1};
  int ended = 0;
  for (int self = 0; self < 2; self++)
    start_fiber("litmus", [&, self] {
      flags[self].store(1, order);
      seen[self] = flags[1 - self].load(std::memory_order_seq_cst);
      ended++;
      look_at_waits();
    });
  wait_until([&] { return ended == 2; });
  end_run();
  return seen[0] == 0 && seen[1] == 0;
}

} // namespace

void check_store_buffering() {
  uint64_t missed = 0;
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    missed += both_miss<std::memory_order_release>(seed) ? 1 : 0;
    if (both_miss<std::memory_order_seq_cst>(seed))
      fail("a store that is sequentially consistent is seen late");
  }
  if (missed == 0)
    fail("no store is seen late");
}

} // namespace simulation
