// Queues for turns that threads of JavaScript share, by names they give.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "backend/turn_queue.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::addon {

// Any thread.
class SharedTurns {
public:
  // The queue of this name, as long as anybody has it; `made` if there is none.
  std::shared_ptr<backend::TurnQueue> join(const std::string &name,
                                           std::shared_ptr<backend::TurnQueue> made) {
    std::lock_guard lock(mutex_);
    for (auto entry = all_.begin(); entry != all_.end();)
      entry = entry->second.expired() ? all_.erase(entry) : std::next(entry);
    std::weak_ptr<backend::TurnQueue> &shared = all_[name];
    if (std::shared_ptr<backend::TurnQueue> queue = shared.lock())
      return queue;
    shared = made;
    return made;
  }

private:
  base::Mutex<base::LockRank::shared_turns> mutex_; // guards the rest
  std::map<std::string, std::weak_ptr<backend::TurnQueue>> all_;
};

} // namespace asyncnbd::addon
