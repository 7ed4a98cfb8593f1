// Threads of a simulated run: fibers on one thread of the system, of which one runs at a time.
// Which one, a seed decides at each place where it matters.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <ucontext.h>
#include <vector>

#include "random.hpp"

namespace simulation {

constexpr int64_t NEVER = INT64_MAX;

// A store that other threads do not see yet: see memory_order.cpp.
struct DelayedStore {
  void *to;
  unsigned bytes;
  unsigned __int128 value;
};

struct Fiber {
  enum class State : uint8_t { ready, blocked, ended };

  std::function<void()> body;
  std::string name;
  uint64_t number = 0;
  State state = State::ready;
  bool has_begun = false;
  bool is_woken = false;                // else its time was over
  const void *waits_for = nullptr;      // what wake_* names, or nullptr
  std::function<bool()> until;          // or what it waits for
  int64_t due_ns = NEVER;               // when it waits no longer
  std::vector<DelayedStore> stores;     // the oldest first
  std::map<unsigned, void *> specifics; // of pthread_setspecific
  void *stack = nullptr;
  std::vector<char> thread_locals;
  int error_number = 0;
  ucontext_t begin{};
  jmp_buf place{};
};

// Thrown where a fiber waits for ever, once all that is waited for is over.
struct FiberEnds {};

// What a run is like, besides what it does.
struct Chances {
  uint64_t switch_one_in = 4;      // of the places where a thread may be interrupted
  uint64_t delay_store_one_in = 0; // 0: all stores are seen at once
  uint64_t show_store_one_in = 4;  // and at each switch, of those
  uint64_t wake_spuriously_one_in = 0;
};

// The run that is going on. Before the first and after the last there is only the main fiber.
void begin_run(uint64_t seed, const Chances &chances);
// Ends all fibers but the caller's, which wait for ever or will be due some time.
void end_run();

// Between begin_run and end_run: what is left to chance is drawn.
bool is_run_going_on();
Fiber &current_fiber();
Random &random_of_run();
const Chances &chances_of_run();
// Nanoseconds since the beginning of simulated time; each look takes a little.
int64_t look_at_clock();
int64_t now_ns();
uint64_t switches();
// Of all that has been decided: two runs of one seed have the same.
uint64_t digest();
void add_to_digest(uint64_t what);

Fiber &start_fiber(std::string name, std::function<void()> body);
// The calling fiber may be interrupted here.
void may_switch();
// Lets others run.
void yield_fiber();
// False: it was not woken before `due_ns`.
bool wait_for(const void *object, int64_t due_ns = NEVER);
// The same, until something is so.
bool wait_until(std::function<bool()> until, int64_t due_ns = NEVER);
void wake_one(const void *object);
void wake_all(const void *object);
// Something has changed that others may wait for.
void look_at_waits();
void sleep_fiber(int64_t ns);
// For less than so long; mostly a little longer, until another thread wakes as well: what
// happens at once is what is hard.
void sleep_for_some_time(uint64_t longest_ns);
// Of a fiber by its number: it does not wait.
bool is_ready(uint64_t number);

// What a run shows is wrong: says what and which seed, and ends the process.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Said besides, where a run fails: what its parts are at.
void set_describe(std::function<void()> describe);

// Nobody is interrupted as long as it lives.
class Uninterrupted {
public:
  Uninterrupted();
  ~Uninterrupted();
  Uninterrupted(const Uninterrupted &) = delete;
  Uninterrupted &operator=(const Uninterrupted &) = delete;
};

} // namespace simulation
