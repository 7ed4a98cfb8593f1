// See plan.hpp.
#include "plan.hpp"

namespace simulation {

namespace {

// Mostly nothing of a kind: what goes wrong is easier to see where little does.
uint64_t perhaps(Random &random, uint64_t one_in, uint64_t least, uint64_t most) {
  return random.one_in(one_in) ? random.between(least, most) : 0;
}

void draw_server(Random &random, Plan &plan) {
  plan.cores = static_cast<unsigned>(random.between(1, 3));
  plan.answers_later = random.one_in(2);
  plan.max_threads = static_cast<unsigned>(random.between(1, 4));
  plan.spin_us = random.one_in(2) ? 0 : 20;
  // The least for which all can be served; or plenty.
  plan.budget_bytes = random.one_in(2) ? 256 << 10 : 64 << 20;
  plan.connection_bytes = random.one_in(2) ? 512 << 10 : 16 << 20;
  plan.grace = std::chrono::milliseconds(random.between(1, 4000));
  plan.stall_timeout = std::chrono::milliseconds(perhaps(random, 2, 1000, 4000));
}

void draw_plugin(Random &random, Plan &plan) {
  plan.plugin_threads = static_cast<unsigned>(random.between(1, 3));
  plan.slow_one_in = perhaps(random, 2, 1, 16);
  plan.later_one_in = plan.answers_later ? random.between(1, 4) : 0;
  plan.never_one_in = plan.answers_later ? perhaps(random, 4, 2, 16) : 0;
  plan.elsewhere_one_in = perhaps(random, 2, 1, 4);
  plan.has_places = random.one_in(2);
  plan.fua = static_cast<Support>(random.below(3));
  plan.zero = random.one_in(2) ? Support::native : Support::emulate;
  plan.cache = random.one_in(2) ? Support::native : Support::emulate;
  plan.longest_range_bytes = random.one_in(2) ? UINT64_MAX : 64 << 10;
  plan.looks_for_holes = random.one_in(2);
  plan.fail_flush_one_in = perhaps(random, 4, 1, 4);
  plan.layer = static_cast<LayerKind>(perhaps(random, 3, 1, 2));
  plan.layer_delay_ms = random.between(0, 20);
  plan.turns = static_cast<unsigned>(perhaps(random, 3, 1, 3));
  if (plan.layer != LayerKind::none && !plan.answers_later)
    plan.turns = 3;   // threads that may not block do not call a plugin that does
  if (plan.turns > 0) // what may block, workers call
    plan.turn_workers =
        plan.answers_later && random.one_in(2) ? 0 : static_cast<unsigned>(random.between(1, 3));
  plan.has_loop = plan.answers_later && random.one_in(2);
  plan.loop_ends = plan.has_loop && random.one_in(4);
  // 2 s at most, for which nothing else may have to wait.
  plan.longest_ns = 1000 << (random.one_in(3) ? 21 : random.below(22));
}

void draw_clients(Random &random, Plan &plan) {
  plan.style = static_cast<asyncnbd::wire::ReplyStyle>(perhaps(random, 2, 1, 2));
  const bool are_many = random.one_in(4); // so many that the idle poller opens
  plan.connections = static_cast<unsigned>(are_many ? random.between(8, 10) : random.between(1, 3));
  plan.requests = static_cast<unsigned>(random.between(1, 2 << random.below(5)));
  plan.stream_bytes = 2048 << random.below(7);
  plan.large_one_in = perhaps(random, 3, 2, 16);
  plan.are_writers = random.one_in(4);
  if (plan.has_loop && random.one_in(2)) { // what brings them there
    plan.are_writers = true;
    plan.large_one_in = 1;
  }
  plan.pause_one_in = random.between(1, 16);
  // 2 s at most, after which idle memory is given back; often so long as the detector of slow calls
  // takes to fall asleep.
  plan.longest_pause_ns = 1000 << (random.one_in(3) ? 15 : random.below(22));
  plan.misbehave_one_in = perhaps(random, 2, 1, 4);
}

} // namespace

Plan draw_plan(uint64_t seed) {
  Random random(seed ^ 0x706c616e);
  Plan plan;
  plan.chances.switch_one_in = 1 << random.below(6);
  plan.chances.delay_store_one_in = perhaps(random, 2, 1, 3);
  plan.chances.show_store_one_in = 2 << random.below(5);
  plan.chances.wake_spuriously_one_in = perhaps(random, 2, 8, 64);
  draw_server(random, plan);
  draw_plugin(random, plan);
  draw_clients(random, plan);
  plan.stops = random.one_in(4);
  plan.kill_one_in = perhaps(random, 4, 1, 4);
  plan.refuse_threads_one_in = perhaps(random, 8, 2, 16);
  plan.refuse_memory_one_in = perhaps(random, 8, 4, 32);
  plan.refuse_descriptors_one_in = perhaps(random, 8, 4, 32);
  // When the idle poller has lost its last worker, and needs one again.
  if (plan.connections >= 8 && !plan.stops && random.one_in(4))
    plan.waves = 2;
  return plan;
}

} // namespace simulation
