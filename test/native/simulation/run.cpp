// See run.hpp.
#include "run.hpp"

#include <algorithm>
#include <cstdio>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/emulate.hpp"
#include "backend/sparse_reads.hpp"
#include "backend/turns.hpp"
#include "base/thread_pool.hpp"
#include "client.hpp"
#include "content.hpp"
#include "descriptors.hpp"
#include "durable.hpp"
#include "layers.hpp"
#include "loop.hpp"
#include "nbd/connection.hpp"
#include "plan.hpp"
#include "plugin.hpp"
#include "requests.hpp"
#include "system.hpp"
#include "threads.hpp"
#include "wire/commands.hpp"

namespace simulation {

using namespace asyncnbd;

namespace {

constexpr int64_t NS_PER_MS = 1'000'000;
constexpr int64_t LONGEST_RUN_NS = 120'000 * NS_PER_MS;
// After this all threads have gone that wait for work.
constexpr int64_t QUIET_NS = 10'000 * NS_PER_MS;
constexpr int64_t EXCUSED_NS = 300 * NS_PER_MS;
constexpr nbd::MetaContext CONTEXT{CONTEXT_ID, backend::ContextStatus::ALLOCATION};

// As schedule::Runtime::make_for_system has it, but not for ever.
struct Process {
  explicit Process(unsigned cores) : runtime(clock, threads, poller, cores), resources(runtime) {}

  base::SystemClock clock;
  base::ThreadPool threads;
  schedule::EpollPoller poller;
  schedule::Runtime runtime;
  nbd::Resources resources;
};

class Run;

// One client and its connection.
struct Session final : Excuses {
  explicit Session(const Run &run) : run(run) {}
  bool may_wait(const Waiting &waiting) const override;
  bool is_overdue(const Asked &asked) const override;

  const Run &run;
  std::shared_ptr<nbd::ClientContext> context;
  std::shared_ptr<nbd::Connection> connection; // until it has closed
  std::weak_ptr<nbd::Connection> known;
  SimulatedBackend *backend = nullptr; // as long as the connection lives
  std::optional<Client> client;
  bool is_open = false;
};

class Run {
public:
  explicit Run(const Plan &plan)
      : plan_(plan), process_(plan.cores), plugin_(plan, durable_),
        layers_(plan, process_.resources.of_backends),
        loop_(plan, process_.clock), clients_{plan, durable_, 0, 0},
        budget_(std::make_shared<base::MemoryBudget>(plan.budget_bytes)) {
    if (plan.turns > 0)
      turns_ = std::make_shared<backend::TurnQueue>(plan.turns, plan.turn_workers,
                                                    process_.resources.of_backends);
  }

  Outcome carry_out();
  bool is_busy() const;
  bool may_be_others_turn() const;
  bool is_stopping() const { return is_stopping_; }
  bool may_be_in_layer() const;
  // There is less than those ask for who wait for it.
  bool is_short() const {
    return budget_->is_short() &&
           budget_->taken_bytes() + budget_->wanted_bytes() > plan_.budget_bytes;
  }
  const Plan &plan() const { return plan_; }

private:
  void connect(Session &session, unsigned number);
  void connect_all(unsigned first);
  bool start(Session &session, unsigned number, int fd);
  void disturb(Session &session);
  void stop();
  void wait_until_over();
  void check_end();
  void describe() const;

  const Plan &plan_;
  Process process_;
  Durable durable_;
  Plugin plugin_;
  Layers layers_;
  Loop loop_;
  Clients clients_;
  std::shared_ptr<base::MemoryBudget> budget_;
  std::shared_ptr<backend::TurnQueue> turns_; // the plugin's, or it takes any number at once
  std::shared_ptr<host::ServerContext> server_;
  std::deque<Session> sessions_;
  unsigned disturbers_ = 0;
  bool is_stopping_ = false;
};

// All of its requests are at the plugin, or as many as may be, or were until a moment ago; or
// memory is short, which those of others may have.
bool Session::may_wait(const Waiting &waiting) const {
  if (!is_open || (run.is_short() && run.is_busy()))
    return true;
  // What others have written is flushed, which a connection that ends waits for as well.
  const Plan &plan = run.plan();
  const bool may_be_left = plan.loop_ends && plan.refuse_threads_one_in > 0;
  const bool may_be_ending = run.is_stopping() || plan.refuse_memory_one_in > 0 || may_be_left;
  const bool may_flush_others = plan.layer == LayerKind::multi_conn &&
                                (waiting.flushes || waiting.unanswered == 0 || may_be_ending);
  if (run.may_be_others_turn() || (may_flush_others && run.is_busy()))
    return true;
  if (now_ns() - backend->last_busy_ns < EXCUSED_NS || run.may_be_in_layer())
    return true;
  if (backend->busy == 0)
    return false;
  // A connection that ends reads no more, but waits for the plugin; or waits for memory, of which
  // it may have no more until something is answered.
  const bool may_be_full = waiting.bytes > plan.connection_bytes / 2;
  const bool is_all_it_may = !plan.answers_later && backend->busy >= plan.max_threads;
  return may_be_ending || may_be_full || is_all_it_may || backend->busy >= waiting.unanswered;
}

// Whatever else the connection waits for. Without memory for what comes next, it may be ending.
bool Session::is_overdue(const Asked &asked) const {
  if (!is_open || asked.type != wire::NBD_CMD_READ || run.plan().refuse_memory_one_in > 0)
    return false;
  const int64_t read_ns = backend->read_ns(asked.offset, asked.length_bytes);
  return read_ns != NEVER && now_ns() - read_ns > EXCUSED_NS;
}

// What has had to wait for the memory of another request is delayed only now.
bool Run::may_be_in_layer() const {
  const int64_t delay_ns = static_cast<int64_t>(plan_.layer_delay_ms) * NS_PER_MS;
  return plan_.layer == LayerKind::delay && now_ns() - plugin_.last_busy_ns < delay_ns + EXCUSED_NS;
}

bool Run::may_be_others_turn() const {
  if (plan_.turns == 0)
    return false;
  // A worker makes one call after the other.
  const bool needs_workers = !plan_.answers_later && plan_.turn_workers > 0;
  const unsigned most = needs_workers ? std::min(plan_.turns, plan_.turn_workers) : plan_.turns;
  return plugin_.busy >= most || now_ns() - plugin_.last_busy_ns < EXCUSED_NS;
}

bool Run::is_busy() const {
  return plugin_.holds_any() || now_ns() - plugin_.last_busy_ns < EXCUSED_NS;
}

bool Run::start(Session &session, unsigned number, int fd) {
  auto transport = std::make_unique<transport::Transport>(process_.resources.page_pipes, fd, fd,
                                                          server_->stop_fd());
  auto own = std::make_unique<SimulatedBackend>(plugin_, number);
  session.backend = own.get();
  std::unique_ptr<backend::Backend> backend = std::move(own);
  base::Threads &threads = process_.resources.of_backends.threads;
  backend = std::make_unique<backend::Emulation>(std::move(backend), threads);
  if (plan_.looks_for_holes)
    backend = std::make_unique<backend::SparseReads>(std::move(backend), threads);
  if (turns_)
    backend = std::make_unique<backend::Turns>(std::move(backend), turns_);
  std::string error;
  if (!backend->prepare(backend::WANTS_ALL, &error))
    fail("a backend is not prepared");
  backend = layers_.open(std::move(backend), *session.context);
  nbd::TransmissionSettings settings{.flags = offered_flags(plan_),
                                     .limits = {.threads = plan_.max_threads,
                                                .spin_us = plan_.spin_us,
                                                .grace = plan_.grace,
                                                .stall_timeout = plan_.stall_timeout,
                                                .in_flight_bytes = plan_.connection_bytes},
                                     .server_budget = budget_,
                                     .style = plan_.style};
  if (plan_.style != wire::ReplyStyle::simple)
    settings.contexts.push_back(CONTEXT);
  session.connection = std::make_shared<nbd::Connection>(
      process_.resources,
      nbd::Ends{session.context, std::move(transport), std::move(backend), loop_.poller()},
      settings, [&session](const auto &) {
        session.is_open = false;
        session.connection.reset(); // from here on it is its threads'
        look_at_waits();
      });
  session.known = session.connection;
  session.is_open = true;
  if (const auto starting = session.connection; starting->start())
    return true;
  session.is_open = false;
  session.connection->take_backend()->close_unused();
  session.connection.reset(); // which closes the stream
  return false;
}

void Run::connect(Session &session, unsigned number) {
  const Connected pair = connect_pair(plan_.stream_bytes);
  if (pair.server < 0)
    return; // the system has no descriptor for it
  session.context = std::make_shared<nbd::ClientContext>(server_, "simulated", number + 1);
  session.client.emplace(clients_, number, pair.client, session);
  // Who has no memory for what a client sends can only hang up.
  const bool may_be_left = plan_.loop_ends && plan_.refuse_threads_one_in > 0;
  const bool may_be_cut = plan_.stall_timeout.count() > 0 && session.client->may_stall();
  if (may_be_cut || plan_.refuse_memory_one_in > 0 || may_be_left)
    session.client->expect_end();
  const bool is_started = start(session, number, pair.server);
  if (!is_started)
    session.client->expect_end();
  session.client->start();
  if (is_started && plan_.kill_one_in > 0 && random_of_run().one_in(plan_.kill_one_in))
    disturb(session);
}

// Some time later, the connection is cut, or the client refused.
void Run::disturb(Session &session) {
  session.client->expect_end();
  disturbers_++;
  start_fiber("who cuts", [this, &session] {
    sleep_for_some_time(3 * NS_PER_MS);
    if (const auto connection = session.connection; connection && random_of_run().one_in(3))
      connection->abort();
    else // or what it asks from now on is refused
      session.context->disconnect(random_of_run().one_in(2));
    disturbers_--;
    look_at_waits();
  });
}

void Run::connect_all(unsigned first) {
  for (unsigned number = first; number < first + plan_.connections; number++) {
    connect(sessions_.emplace_back(*this), number);
    if (random_of_run().one_in(4))
      sleep_for_some_time(NS_PER_MS);
  }
}

void Run::stop() {
  sleep_for_some_time(5 * NS_PER_MS);
  is_stopping_ = true;
  for (Session &session : sessions_)
    if (session.client)
      session.client->expect_end();
  server_->announce_stop();
  for (Session &session : sessions_)
    if (const auto connection = session.connection; connection && session.is_open)
      connection->stop();
}

void Run::wait_until_over() {
  const auto is_over = [this] {
    for (const Session &session : sessions_)
      if (session.is_open || (session.client && !session.client->has_ended()))
        return false;
    return disturbers_ == 0;
  };
  if (!wait_until(is_over, now_ns() + LONGEST_RUN_NS))
    fail("a connection does not end");
}

void Run::check_end() {
  sleep_fiber(QUIET_NS); // and what was given up has been released
  if (budget_->taken_bytes() != 0)
    fail("%llu bytes of the budget are not given back",
         static_cast<unsigned long long>(budget_->taken_bytes()));
  if (budget_->is_short())
    fail("somebody waits for the budget whose connection has ended");
  if (plugin_.busy != 0 || plugin_.submitted != plugin_.answered || plugin_.open != 0)
    fail("the plugin has requests or connections left");
  if (plugin_.lent != 0)
    fail("lent memory is not given back");
}

void Run::describe() const {
  fprintf(stderr, "answers later: %d, threads: %u, cores: %u, stops: %d\n", plan_.answers_later,
          plan_.max_threads, plan_.cores, plan_.stops);
  fprintf(stderr, "turns: %u, workers for them: %u; loop: %d, which ends: %d\n", plan_.turns,
          plan_.turn_workers, plan_.has_loop, plan_.loop_ends);
  fprintf(stderr, "layer: %u, of %llu ms; replies: %u\n", static_cast<unsigned>(plan_.layer),
          static_cast<unsigned long long>(plan_.layer_delay_ms),
          static_cast<unsigned>(plan_.style));
  fprintf(stderr, "one in so many refused: threads %llu, memory %llu, descriptors %llu\n",
          static_cast<unsigned long long>(plan_.refuse_threads_one_in),
          static_cast<unsigned long long>(plan_.refuse_memory_one_in),
          static_cast<unsigned long long>(plan_.refuse_descriptors_one_in));
  fprintf(stderr, "budget: %llu of %llu bytes taken; plugin: %u requests\n",
          static_cast<unsigned long long>(budget_->taken_bytes()),
          static_cast<unsigned long long>(plan_.budget_bytes), plugin_.busy);
  for (const Session &session : sessions_)
    if (session.client) {
      session.client->describe();
      fprintf(stderr, "  of which %u at the plugin%s\n",
              session.is_open ? session.backend->busy : 0, session.is_open ? "" : ", closed");
    }
}

Outcome Run::carry_out() {
  set_describe([this] { describe(); });
  refuse_threads(plan_.refuse_threads_one_in);
  refuse_memory(plan_.refuse_memory_one_in);
  refuse_descriptors(plan_.refuse_descriptors_one_in);
  server_ = std::make_shared<host::ServerContext>([] {});
  plugin_.start();
  loop_.start();
  for (unsigned wave = 0; wave < plan_.waves; wave++) {
    connect_all(wave * plan_.connections);
    if (plan_.stops)
      stop();
    wait_until_over();
  }
  check_end();
  Outcome outcome{switches(), digest(), 0};
  for (Session &session : sessions_) {
    outcome.answered += session.client ? session.client->answered : 0;
    if (!session.known.expired())
      fail("a connection is kept for ever");
  }
  refuse_threads(0);
  refuse_memory(0);
  refuse_descriptors(0);
  sessions_.clear();
  server_.reset();
  if (turns_.use_count() > 1)
    fail("somebody is at the turns who has none");
  plugin_.end();
  loop_.end();
  end_run(); // while there is what the threads use
  return outcome;
}

} // namespace

Outcome run_seed(uint64_t seed) {
  const Plan plan = draw_plan(seed);
  begin_addresses();
  begin_run(seed, plan.chances);
  Outcome outcome{};
  {
    Run run(plan);
    outcome = run.carry_out();
  }
  forget_descriptors();
  if (mapped_bytes() != 0)
    fail("%lld bytes of memory do not come back", static_cast<long long>(mapped_bytes()));
  return outcome;
}

} // namespace simulation
