// What a flush has to make durable, and what it has: who is told of its success may count on each
// write that was answered before it was asked for.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace simulation {

class Durable {
public:
  // Times are no more than an order.
  uint64_t now() { return ++time_; }

  // The plugin has carried out a write at that offset; and the client has got the answer.
  void on_carried_out(unsigned client, uint64_t offset, bool is_durable);
  // Ends the run if it `has_to_be` durable, and is not.
  void on_answered(unsigned client, uint64_t offset, bool has_to_be);
  // The plugin has carried out a flush of the client's connection, which began at that time.
  void on_flushed(unsigned client, uint64_t began);
  // Its connection may end from now on, and with it what others have to flush.
  void on_leaving(unsigned client) { of(client).is_leaving = true; }

  // For a flush that is asked for now: up to when each client's writes are answered.
  std::vector<uint64_t> needed() const;
  // Ends the run if a flush with that need has left something out: its own client's writes, or
  // those `of_all` that stay.
  void check(unsigned client, const std::vector<uint64_t> &needed, bool of_all) const;

private:
  struct Write {
    uint64_t time;
    bool is_durable; // without a flush
  };
  struct Client {
    std::map<uint64_t, Write> carried_out; // by offset, and not answered
    uint64_t written = 0;                  // the last of those that are answered; 0: none is
    uint64_t flushed = 0;                  // what was carried out by then
    bool is_leaving = false;
  };

  Client &of(unsigned client);

  uint64_t time_ = 0;
  std::vector<Client> clients_; // by their numbers
};

} // namespace simulation
