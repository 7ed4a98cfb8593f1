// The backend of a simulated run: answers inside submit, slowly, later on a thread of its own, or
// never until it is given up. One plugin, with a backend for each connection.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "backend/backend.hpp"
#include "durable.hpp"
#include "plan.hpp"

namespace simulation {

using asyncnbd::backend::Request;

class SimulatedBackend;

// What all connections have of it. Outlives them.
class Plugin {
public:
  Plugin(const Plan &plan, Durable &durable) : durable(durable), plan_(plan) {}

  void start();
  void end(); // its threads, once nobody has it open

  const Plan &plan() const { return plan_; }
  // Keeps the request, to be answered later.
  void keep(Request &request, SimulatedBackend &backend);
  // Those of this backend.
  void give_up(SimulatedBackend &backend);
  // Requests that are given up have their memory until it releases them.
  bool holds_any() const { return busy > 0 || !held_.empty(); }

  Durable &durable;
  uint64_t submitted = 0;
  uint64_t answered = 0;
  uint64_t lent = 0; // and not given back
  unsigned open = 0;
  unsigned busy = 0; // requests that it has, of all connections
  int64_t last_busy_ns = 0;

private:
  struct Held {
    Request *request;
    SimulatedBackend *backend;
    int64_t due_ns;
    bool is_given_up; // then only to be released
  };

  void answer_some();
  bool is_due() const;
  int64_t next_due_ns() const;
  Held take_due();
  void release(const Held &held);

  const Plan &plan_;
  std::vector<Held> held_;
  uint64_t changes_ = 0;
  unsigned threads_ = 0;
  bool is_over_ = false;
};

class SimulatedBackend final : public asyncnbd::backend::Backend {
public:
  SimulatedBackend(Plugin &plugin, unsigned client) : plugin_(plugin), client_(client) {
    plugin_.open++;
  }

  void submit(Request &request, asyncnbd::backend::Caller caller) override;
  asyncnbd::backend::Reservation reserve(Request &request) override;
  void unreserve(Request &request) override;
  void give_up_unanswered() override { plugin_.give_up(*this); }
  void close() override;
  // What the plugin says to one that it has kept.
  void answer(Request &request);
  void count_end();

  // When it has answered that read. NEVER: it has not.
  int64_t read_ns(uint64_t offset, uint64_t length_bytes) const;

  unsigned busy = 0; // requests that the plugin has
  int64_t last_busy_ns = 0;

private:
  bool collect(const asyncnbd::backend::Wanted &wanted, asyncnbd::backend::Facts *facts,
               std::string *error) override;
  void answer_read(Request &request, std::vector<uint8_t> *borrowed);
  void lend(Request &request);
  void check(const Request &request) const;
  int draw_error(const Request &request) const;

  Plugin &plugin_;
  const unsigned client_;                                  // its number
  std::map<const Request *, uint64_t> flushes_;            // and when each has begun
  std::map<std::pair<uint64_t, uint64_t>, int64_t> reads_; // by offset and length, and when
  bool is_closed_ = false;
};

} // namespace simulation
