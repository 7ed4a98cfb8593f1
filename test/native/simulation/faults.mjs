// Faults of the kinds that a simulation is for: what to replace in which source, once.

export const FAULTS = [
  {
    name: "lost wake-up: the leader is not told that the last reply has left",
    file: "nbd/completions.cpp",
    from: "  if (leader_waits_.load())\n    shared_.transport.wake();\n",
    to: "",
  },
  {
    name: "lost wake-up: who is busy is not told of an event",
    file: "schedule/registrations.cpp",
    from: "    if (state.compare_exchange_strong(expected, State::notified))\n      return false;\n",
    to: "",
  },
  {
    name: "lost wake-up: the first timer does not wake its thread",
    file: "base/timers.cpp",
    from: "  if (heap_.front() == &timer)\n    wake_.notify_one();\n",
    to: "",
  },
  {
    name: "lost wake-up: who waits for memory is not told of any",
    file: "base/memory_budget.cpp",
    from: "  std::lock_guard lock(mutex_);\n  tell_next();\n}\n\nvoid MemoryBudget::give_back_reserve",
    to: "}\n\nvoid MemoryBudget::give_back_reserve",
  },
  {
    name: "lost reply: the sender stops without a look at who has come meanwhile",
    file: "nbd/reply_queue.cpp",
    from: "  } while (!flushes_.compare_exchange_strong(seen, 0, std::memory_order_acq_rel));",
    to: "    flushes_.store(0);\n    seen = 0;\n  } while (seen > 0);",
  },
  {
    name: "two leaders: the token is taken whether the call has ended or not",
    file: "schedule/leader_token.cpp",
    from: "bool LeaderToken::take(uint64_t call) {\n  return word_",
    to: "bool LeaderToken::take(uint64_t call) {\n  word_.fetch_add(0);\n  return word_.load() > call || word_",
  },
  {
    name: "two senders: the send right is given to the second who flushes",
    file: "nbd/reply_queue.cpp",
    from: "if (flushes_.fetch_add(1, std::memory_order_acq_rel) != 0)",
    to: "if (flushes_.fetch_add(1, std::memory_order_acq_rel) > 1)",
  },
  {
    name: "double completion: a request that is given up is answered twice",
    file: "nbd/completions.cpp",
    from: "  request.pin = shared_.life;\n  request.error = error;\n  answer(&request);",
    to: "  request.pin = shared_.life;\n  request.error = error;\n  answer(&request);\n  answer(&request);",
  },
  {
    name: "use after free: a request that is given up goes back while the plugin has it",
    file: "nbd/completions.cpp",
    from: "  if (holders > 1)\n    return;\n",
    to: "  if (holders < 2)\n    return;\n",
  },
  {
    name: "reply out of a freed slot: a buffer is used again before its replies have left",
    file: "nbd/request_pool.cpp",
    from: "    if (output_ != nullptr && output_->is_exclusive())\n      output_used_ = 0;",
    to: "    if (output_ != nullptr && output_used_ > 100000)\n      output_used_ = 0;",
  },
  {
    name: "budget leak: what a request took that did not come whole is not given back",
    file: "nbd/request_reader.cpp",
    from: "  admission_.withdraw(request->charge);\n  requests_.recycle",
    to: "  requests_.recycle",
  },
  {
    name: "budget over: a request's memory counts for less than it is",
    file: "base/memory_budget.cpp",
    from: "compare_exchange_weak(taken, taken + bytes)",
    to: "compare_exchange_weak(taken, taken + bytes / 2)",
  },
  {
    name: "a thread too few: a task waits for threads that others have been told to wake for",
    file: "base/thread_pool.cpp",
    from: "if (idle_ >= tasks_.size()) {",
    to: "if (idle_ > 0) {",
  },
  {
    name: "a worker too few: one that goes is still counted",
    file: "schedule/idle_poller.cpp",
    from: "      workers_.fetch_sub(1);\n",
    to: "",
  },
  {
    name: "a turn too few: who ends one does not look who waits",
    file: "backend/turn_queue.cpp",
    from: "  if (waiting_count_.load() > 0) {\n    Lock lock(mutex_);\n    serve_waiting(lock);\n  }\n",
    to: "",
  },
  {
    name: "a turn too many: who finds all taken takes one all the same",
    file: "backend/turn_queue.cpp",
    from: "  if (running_.fetch_add(1) < most_)\n    return true;\n  const unsigned",
    to: "  if (running_.fetch_add(1) <= most_)\n    return true;\n  const unsigned",
  },
];
