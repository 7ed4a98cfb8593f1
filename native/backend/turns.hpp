// The place of thread models: directly above a plugin, in whatever language, lets no more requests
// through at once than it can take, and never blocks the thread that submits one.
#pragma once

#include <memory>

#include "backend/layer.hpp"
#include "backend/turn_queue.hpp"

namespace asyncnbd::backend {

class Turns : public PassingLayer, private Completer, private TurnTaker {
public:
  // `queue`: the plugin's, or this export's. If it has no workers, what is below only queues, and
  // gets requests from inside the completion of others: that must hold no lock then.
  // `calls_in_turn`: finalizing and closing are calls as others are; and preparing, for a whole
  // chain.
  Turns(std::unique_ptr<Backend> below, std::shared_ptr<TurnQueue> queue,
        bool calls_in_turn = false);

  // The plugin is asked by several threads at once, whatever its model.
  void submit(Request &request, Caller caller) override;
  void give_up_unanswered() override;
  bool finalize() override;
  void close() override;
  void close_unused() override;

protected:
  // For a call that is no request, if such calls take turns.
  std::unique_lock<TurnQueue> turn_of_call();
  // For one after the last request, whose worker may be on its way out yet.
  std::unique_lock<TurnQueue> turn_of_last_call();

private:
  void complete(Request &request, int error) override;
  void give_up(Request &request, int error) override;
  void take_turn(Request *request) override { below().submit(*request, may_call_); }

  const std::shared_ptr<TurnQueue> queue_;
  const Caller may_call_; // who takes a turn that somebody has waited for
  const bool calls_in_turn_;
};

// For a whole chain: no data move before their request has its turn, as they would overtake what
// waits in a layer. In a file of its own: where the class is made is too much for clang's analyzer,
// which then sees a leak.
std::unique_ptr<Backend> put_in_turns(std::unique_ptr<Backend> below,
                                      std::shared_ptr<TurnQueue> queue, bool calls_in_turn);

} // namespace asyncnbd::backend
