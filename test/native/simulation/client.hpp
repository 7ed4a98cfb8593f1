// A client of a simulated run: one thread sends requests, one checks the replies.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "descriptors.hpp"
#include "durable.hpp"
#include "plan.hpp"
#include "replies.hpp"

namespace simulation {

// What clients have in common.
struct Clients {
  const Plan &plan;
  Durable &durable;
  unsigned idlers = 0; // of them, who do not go on although the server waits for them
  int64_t last_idle_ns = 0;
};

// What a client is waiting for.
struct Waiting {
  size_t unanswered = 0;
  uint64_t bytes = 0; // that those take of the server's memory
  bool flushes = false;
};

// Who says why a client need not be answered just now.
class Excuses {
public:
  virtual ~Excuses() = default;
  virtual bool may_wait(const Waiting &waiting) const = 0;
  // It is a read that the plugin has done so long ago that its reply is overdue.
  virtual bool is_overdue(const Asked &asked) const = 0;
};

class Client {
public:
  Client(Clients &all, unsigned number, std::shared_ptr<Socket> socket, const Excuses &excuses);

  void start();
  // The server is to stop, or the connection to be cut: not all will be answered.
  void expect_end() {
    may_end_early_ = true;
    all_.durable.on_leaving(number_);
  }
  // Of whoever has it no longer.
  bool has_ended() const { return !is_sending_ && !is_receiving_; }
  // Whoever stalls may be cut for it.
  bool may_stall() const { return way_ > Way::leaves; }
  void describe() const;

  uint64_t answered = 0;

private:
  // What it does besides what it should.
  enum class Way : uint8_t { good, leaves, stops_inside, reads_late, reads_slowly };

  void send_requests();
  void receive_replies();
  void ask(uint64_t cookie);
  void stay_inside();
  void say_goodbye();
  bool send(const std::vector<uint8_t> &bytes);
  bool receive(uint8_t *to, size_t length_bytes);
  bool receive_some(uint8_t *to, size_t length_bytes, size_t *received);
  void wait_for_input();
  bool may_wait() const;
  bool receive_reply();
  bool receive_payload(const Reply &reply, Asked *asked);
  void check_reply(const Asked &asked) const;
  void note_success(const Asked &asked);
  void idle(uint64_t longest_ms);
  void check_end() const;

  Clients &all_;
  const unsigned number_;
  const std::shared_ptr<Socket> socket_;
  const Excuses &excuses_;
  Way way_ = Way::good;
  size_t window_ = 1;               // so many requests at once
  uint64_t leaves_at_ = 0;          // after so many requests
  std::map<uint64_t, Asked> asked_; // and not answered, by their cookies
  uint64_t sent_ = 0;
  int64_t last_asked_ns_ = 0; // for something, or to end
  bool is_sending_ = true;
  bool is_receiving_ = true;
  bool has_left_ = false;
  bool has_said_goodbye_ = false;
  bool may_end_early_ = false;
  bool is_in_request_ = false; // which is not all sent
};

} // namespace simulation
