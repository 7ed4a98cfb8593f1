// See fibers.hpp.
#include "fibers.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <unistd.h>

#include "memory_order.hpp"
#include "thread_locals.hpp"
#include "threads.hpp"

extern "C" void *__real_mmap(void *at, size_t length, int protection, int flags, int fd, off_t);

namespace simulation {

namespace {

constexpr size_t STACK_BYTES = 256 << 10;
constexpr size_t GUARD_BYTES = 4096;
constexpr int64_t FIRST_NS = 3'600'000'000'000; // the system has been up for an hour
constexpr int64_t LONGEST_STEP_NS = 200;
constexpr int64_t LITTLE_LONGER_NS = 3'000'000;
constexpr uint64_t MAX_SWITCHES = 20'000'000; // a run that goes on for so long never ends

struct World {
  ThreadLocals locals = find_thread_locals();
  Fiber main;
  Fiber *current = &main;
  std::vector<std::unique_ptr<Fiber>> fibers; // but the main one
  std::vector<Fiber *> alive;                 // of those
  std::vector<Fiber *> chosen;                // for as long as one is drawn
  std::vector<void *> stacks;                 // that are free
  Random random{0};
  uint64_t seed = 0;
  Chances chances;
  int64_t now_ns = FIRST_NS;
  uint64_t switches = 0;
  uint64_t digest = 0;
  uint64_t count = 0;
  int uninterrupted = 0;
  bool is_running = false;
  bool is_ending = false;
  std::function<void()> describe;

  World() {
    main.name = "main";
    main.has_begun = true;
  }
};

// Never destroyed; in memory of its own, as new looks for it.
World &world() {
  alignas(World) static char place[sizeof(World)];
  static World *made = nullptr;
  if (made == nullptr) {
    made = reinterpret_cast<World *>(place);
    new (place) World;
  }
  return *made;
}

void *take_stack(World &all) {
  if (!all.stacks.empty()) {
    void *stack = all.stacks.back();
    all.stacks.pop_back();
    return stack;
  }
  void *stack = __real_mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED || mprotect(stack, GUARD_BYTES, PROT_NONE) != 0)
    fail("the simulation has no memory for a stack");
  return stack;
}

void switch_to(World &all, Fiber &next);
Fiber &next_to_run(World &all);

void run_fiber() {
  World &all = world();
  Fiber &self = *all.current;
  try {
    self.body();
    may_switch(); // as long as others do not see its last stores
  } catch (const FiberEnds &) {
  }
  end_specifics(self);
  self.body = nullptr;
  show_stores(self);
  self.state = Fiber::State::ended;
  all.stacks.push_back(self.stack); // used until the switch, and by nobody before it
  switch_to(all, all.is_ending ? all.main : next_to_run(all));
}

void begin(World &all, Fiber &fiber) {
  fiber.has_begun = true;
  fiber.stack = take_stack(all);
  getcontext(&fiber.begin);
  fiber.begin.uc_stack.ss_sp = fiber.stack;
  fiber.begin.uc_stack.ss_size = STACK_BYTES;
  fiber.begin.uc_link = nullptr;
  makecontext(&fiber.begin, run_fiber, 0);
}

void switch_to(World &all, Fiber &next) {
  Fiber &from = *all.current;
  if (&from == &next)
    return;
  all.switches++;
  if (all.switches > MAX_SWITCHES)
    fail("the run does not end");
  add_to_digest(next.number);
  const ThreadLocals &locals = all.locals;
  from.error_number = errno;
  from.thread_locals.resize(locals.initial.size());
  memcpy(from.thread_locals.data(), locals.place, locals.initial.size());
  all.current = &next;
  if (_setjmp(from.place) != 0)
    return; // which is when somebody has switched back
  memcpy(locals.place, next.thread_locals.data(), locals.initial.size());
  errno = next.error_number;
  if (next.has_begun)
    _longjmp(next.place, 1);
  begin(all, next);
  setcontext(&next.begin);
}

bool is_due(const World &all, const Fiber &fiber) {
  return fiber.state == Fiber::State::blocked && fiber.due_ns <= all.now_ns;
}

void make_ready(Fiber &fiber, bool is_woken) {
  fiber.state = Fiber::State::ready;
  fiber.is_woken = is_woken;
}

template <typename Visit> void each_fiber(World &all, Visit visit) {
  visit(all.main);
  for (Fiber *fiber : all.alive)
    visit(*fiber);
}

// Nobody can go on: the next that is due will.
void skip_time(World &all) {
  int64_t due_ns = NEVER;
  each_fiber(all, [&](const Fiber &fiber) {
    if (fiber.state == Fiber::State::blocked)
      due_ns = std::min(due_ns, fiber.due_ns);
  });
  if (due_ns == NEVER)
    fail("everybody waits for ever");
  all.now_ns = std::max(all.now_ns, due_ns);
}

Fiber &next_to_run(World &all) {
  std::erase_if(all.alive, [](const Fiber *fiber) { return fiber->state == Fiber::State::ended; });
  for (;;) {
    std::vector<Fiber *> &ready = all.chosen;
    ready.clear();
    each_fiber(all, [&](Fiber &fiber) {
      if (is_due(all, fiber))
        make_ready(fiber, false);
      if (fiber.state == Fiber::State::ready)
        ready.push_back(&fiber);
    });
    if (!ready.empty())
      return *ready[all.random.below(ready.size())];
    each_fiber(all, [](Fiber &fiber) { show_stores(fiber); });
    skip_time(all);
  }
}

bool block(World &all) {
  Fiber &self = *all.current;
  if (all.is_ending)
    throw FiberEnds();
  self.state = Fiber::State::blocked;
  show_stores(self); // as the system does, for a thread that leaves its processor
  switch_to(all, next_to_run(all));
  self.waits_for = nullptr;
  self.until = nullptr;
  self.due_ns = NEVER;
  if (all.is_ending && &self != &all.main)
    throw FiberEnds();
  return self.is_woken;
}

} // namespace

// ---- runs ---------------------------------------------------------------------------------------

void begin_run(uint64_t seed, const Chances &chances) {
  World &all = world();
  all.random = Random(seed);
  all.seed = seed;
  all.chances = chances;
  all.now_ns = FIRST_NS;
  all.switches = all.digest = all.count = 0;
  all.is_running = true;
}

void end_run() {
  World &all = world();
  all.is_ending = true;
  for (size_t i = 0; i < all.fibers.size(); i++) {
    Fiber &fiber = *all.fibers[i];
    if (fiber.state == Fiber::State::ended || !fiber.has_begun)
      continue;
    switch_to(all, fiber);
  }
  show_stores(all.main);
  all.alive.clear();
  all.fibers.clear();
  all.is_ending = false;
  all.is_running = false;
  all.describe = nullptr;
}

bool is_run_going_on() {
  const World &all = world();
  return all.is_running && !all.is_ending && all.uninterrupted == 0;
}
Fiber &current_fiber() {
  return *world().current;
}
Random &random_of_run() {
  return world().random;
}
const Chances &chances_of_run() {
  return world().chances;
}
int64_t now_ns() {
  return world().now_ns;
}
uint64_t switches() {
  return world().switches;
}
uint64_t digest() {
  return world().digest;
}
void add_to_digest(uint64_t what) {
  World &all = world();
  all.digest = (all.digest ^ what) * 0x100000001b3 + 1;
}
void set_describe(std::function<void()> describe) {
  world().describe = std::move(describe);
}

int64_t look_at_clock() {
  World &all = world();
  all.now_ns += static_cast<int64_t>(all.random.below(LONGEST_STEP_NS));
  may_switch();
  return all.now_ns;
}

void fail(const char *format, ...) {
  World &all = world();
  all.uninterrupted++;
  fflush(stdout);
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "seed %llu: ", static_cast<unsigned long long>(all.seed));
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fprintf(stderr, "\nafter %llu switches and %.6f s, in %s\n",
          static_cast<unsigned long long>(all.switches),
          static_cast<double>(all.now_ns - FIRST_NS) / 1e9, all.current->name.c_str());
  each_fiber(all, [](const Fiber &fiber) {
    if (fiber.state != Fiber::State::ended)
      fprintf(stderr, "  %s %s\n", fiber.name.c_str(),
              fiber.state == Fiber::State::ready ? "can go on"
              : fiber.due_ns != NEVER            ? "waits for some time"
                                                 : "waits");
  });
  if (all.describe)
    all.describe();
  _exit(1);
}

// ---- fibers -------------------------------------------------------------------------------------

Fiber &start_fiber(std::string name, std::function<void()> body) {
  World &all = world();
  Fiber &fiber = *all.fibers.emplace_back(std::make_unique<Fiber>());
  fiber.body = std::move(body);
  fiber.name = std::move(name);
  fiber.number = ++all.count;
  fiber.thread_locals = all.locals.initial;
  all.alive.push_back(&fiber);
  return fiber;
}

void may_switch() {
  World &all = world();
  if (!is_run_going_on())
    return;
  if (!all.random.one_in(all.chances.switch_one_in))
    return;
  yield_fiber();
}

void yield_fiber() {
  World &all = world();
  if (!is_run_going_on())
    return;
  all.now_ns += static_cast<int64_t>(all.random.below(LONGEST_STEP_NS));
  each_fiber(all, [&](Fiber &fiber) { show_some_stores(fiber, all.random); });
  switch_to(all, next_to_run(all));
  if (all.is_ending && all.current != &all.main)
    throw FiberEnds();
}

bool wait_for(const void *object, int64_t due_ns) {
  World &all = world();
  all.current->waits_for = object;
  all.current->due_ns = due_ns;
  return block(all);
}

bool wait_until(std::function<bool()> until, int64_t due_ns) {
  World &all = world();
  if (until())
    return true;
  all.current->until = std::move(until);
  all.current->due_ns = due_ns;
  return block(all);
}

void wake_one(const void *object) {
  World &all = world();
  std::vector<Fiber *> &waiting = all.chosen;
  waiting.clear();
  each_fiber(all, [&](Fiber &fiber) {
    if (fiber.state == Fiber::State::blocked && fiber.waits_for == object)
      waiting.push_back(&fiber);
  });
  if (!waiting.empty())
    make_ready(*waiting[all.random.below(waiting.size())], true);
}

void wake_all(const void *object) {
  each_fiber(world(), [&](Fiber &fiber) {
    if (fiber.state == Fiber::State::blocked && fiber.waits_for == object)
      make_ready(fiber, true);
  });
}

void look_at_waits() {
  each_fiber(world(), [](Fiber &fiber) {
    if (fiber.state == Fiber::State::blocked && fiber.until && fiber.until())
      make_ready(fiber, true);
  });
}

void sleep_fiber(int64_t ns) {
  static const char nothing = 0;
  wait_for(&nothing, now_ns() + ns);
}

void sleep_for_some_time(uint64_t longest_ns) {
  World &all = world();
  sleep_fiber(static_cast<int64_t>(all.random.below(longest_ns)));
  if (all.random.one_in(4))
    return;
  std::vector<int64_t> due_ns;
  each_fiber(all, [&](const Fiber &fiber) {
    if (fiber.state == Fiber::State::blocked && fiber.due_ns != NEVER)
      due_ns.push_back(fiber.due_ns);
  });
  if (due_ns.empty())
    return;
  const int64_t until_ns = all.random.one_in(2) ? *std::min_element(due_ns.begin(), due_ns.end())
                                                : due_ns[all.random.below(due_ns.size())];
  if (until_ns - all.now_ns < LITTLE_LONGER_NS)
    sleep_fiber(until_ns - all.now_ns);
}

bool is_ready(uint64_t number) {
  bool found = false;
  each_fiber(world(), [&](const Fiber &fiber) {
    found = found || (fiber.number == number && fiber.state == Fiber::State::ready);
  });
  return found;
}

Uninterrupted::Uninterrupted() {
  world().uninterrupted++;
}
Uninterrupted::~Uninterrupted() {
  world().uninterrupted--;
}

} // namespace simulation
