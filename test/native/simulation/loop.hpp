// The event loop that a plugin's callbacks run on, as connections meet it: one thread that serves
// them, does other things at times, and may end before they do.
#pragma once

#include <memory>

#include "plan.hpp"
#include "schedule/loop_poller.hpp"

namespace simulation {

// Outlives the connections.
class Loop {
public:
  // It is there, if the plan has one and the system a descriptor for it.
  Loop(const Plan &plan, const asyncnbd::base::Clock &clock);

  void start();
  void end(); // its thread, once there are no connections

  const std::shared_ptr<asyncnbd::schedule::LoopPoller> &poller() const { return poller_; }

private:
  void run();

  const Plan &plan_;
  int epoll_fd_ = -1;
  std::shared_ptr<asyncnbd::schedule::LoopPoller> poller_; // nullptr: there is no loop
  bool is_running_ = false;
  bool is_over_ = false;
};

} // namespace simulation
