// Runs the server's runtime in simulation, once for each seed, and looks whether what must hold
// does:
//   simulation_test [--seed N] [--runs N] [--seconds N]
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "backend/stand_in.hpp"
#include "crash.hpp"
#include "fibers.hpp"
#include "host/log.hpp"
#include "litmus.hpp"
#include "memory.hpp"
#include "run.hpp"

namespace {

// Without --runs and --seconds.
constexpr uint64_t USUAL_RUNS = 1000;

struct Wanted {
  uint64_t seed = 1;
  uint64_t runs = USUAL_RUNS;
  double seconds = 0; // 0: it is the runs that count
};

bool parse(int count, char **words, Wanted *wanted) {
  for (int i = 1; i < count; i += 2) {
    if (i + 1 == count)
      return false;
    if (strcmp(words[i], "--seed") == 0)
      wanted->seed = strtoull(words[i + 1], nullptr, 10);
    else if (strcmp(words[i], "--runs") == 0)
      wanted->runs = strtoull(words[i + 1], nullptr, 10);
    else if (strcmp(words[i], "--seconds") == 0)
      wanted->seconds = strtod(words[i + 1], nullptr);
    else
      return false;
  }
  return true;
}

// Of the real clock, whatever the simulation makes of it.
double seconds_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

constexpr uint64_t COMPARE_EACH = 64;

// A run should leave the process as it was, and be the same when it is done again. What is kept for
// ever, the first run has made, and tables that have grown: whether it is that, a second one shows.
simulation::Outcome run_and_compare(uint64_t seed) {
  const int64_t before = simulation::pieces_in_use();
  const simulation::Outcome first = simulation::run_seed(seed);
  const int64_t between = simulation::pieces_in_use();
  if (between == before && seed % COMPARE_EACH != 0)
    return first;
  const simulation::Outcome second = simulation::run_seed(seed);
  if (first.digest != second.digest)
    simulation::fail("the same seed runs in another way");
  if (simulation::pieces_in_use() > between)
    simulation::fail("%lld pieces of memory do not come back",
                     static_cast<long long>(simulation::pieces_in_use() - between));
  return first;
}

} // namespace

int main(int count, char **words) {
  Wanted wanted;
  if (!parse(count, words, &wanted)) {
    fprintf(stderr, "usage: simulation_test [--seed N] [--runs N] [--seconds N]\n");
    return 2;
  }
  asyncnbd::host::log_configure("simulation_test", false, asyncnbd::host::LogSink::none);
  simulation::report_crashes();
  simulation::check_store_buffering();
  asyncnbd::backend::zeroes(); // which the process makes once
  const double begin = seconds_now();
  simulation::Outcome all{};
  uint64_t runs = 0;
  const auto is_enough = [&] {
    return wanted.seconds > 0 ? seconds_now() - begin >= wanted.seconds : runs >= wanted.runs;
  };
  for (; !is_enough(); runs++) {
    const simulation::Outcome one = run_and_compare(wanted.seed + runs);
    all.switches += one.switches;
    all.answered += one.answered;
    all.digest = all.digest * 31 + one.digest;
  }
  const double seconds = seconds_now() - begin;
  printf("seeds %llu to %llu: %.0f runs a second, %llu switches, %llu requests answered, digest "
         "%016llx\n",
         static_cast<unsigned long long>(wanted.seed),
         static_cast<unsigned long long>(wanted.seed + runs - 1),
         static_cast<double>(runs) / seconds, static_cast<unsigned long long>(all.switches),
         static_cast<unsigned long long>(all.answered),
         static_cast<unsigned long long>(all.digest));
  return 0;
}
