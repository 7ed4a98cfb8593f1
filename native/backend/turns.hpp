// Enforces thread models: directly above a plugin, in any language, lets through no more requests
// at once than it can take, and never blocks the thread that submits one.
#pragma once

#include <memory>

#include "backend/layer.hpp"
#include "backend/turn_queue.hpp"

namespace asyncnbd::backend {

class Turns : public PassingLayer, private Completer {
public:
  // `queue`: the plugin's, or this export's. If it has no workers, the backend below only queues,
  // and gets requests from inside the completion of others, which must hold no lock then.
  // `calls_in_turn`: finalizing and closing take turns like other calls; for a whole chain,
  // preparing too.
  Turns(std::unique_ptr<Backend> opened, std::shared_ptr<TurnQueue> queue,
        bool calls_in_turn = false);

  // Several threads may call it at once, whatever the plugin's model.
  void submit(Request &request, Caller caller) override;
  void give_up_unanswered() override;
  bool finalize() override;
  void close() override;
  void close_unused() override;

protected:
  // For a call that is not a request, if such calls take turns.
  std::unique_lock<TurnQueue> turn_of_call();
  // For a call after the last request, whose worker may still be leaving.
  std::unique_lock<TurnQueue> turn_of_last_call();

private:
  // Its requests that have waited.
  class Waited final : public TurnTaker {
  public:
    Waited(Backend &below, const TurnQueue &queue)
        : below_(below), caller_(queue.has_workers() ? Caller::may_block : Caller::must_not_block) {
    }

    void take_turn(Request *request) override { below_.submit(*request, caller_); }

  private:
    Backend &below_;
    const Caller caller_; // a worker, or who has ended the turn before
  };

  void complete(Request &request, int error) override;
  void give_up(Request &request, int error) override;

  const std::shared_ptr<TurnQueue> queue_;
  Waited waited_;
  const bool calls_in_turn_;
};

// For a whole chain: a request's data moves only in its turn, because it would overtake requests
// that wait in a layer. In a file of its own, because clang's analyzer would see a leak at the
// constructor.
std::unique_ptr<Backend> put_in_turns(std::unique_ptr<Backend> below,
                                      std::shared_ptr<TurnQueue> queue, bool calls_in_turn);

} // namespace asyncnbd::backend
