// What threads of JavaScript share, by names that they choose: queues for turns, counters of
// requests.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/mutex.hpp"

namespace asyncnbd::addon {

// Any thread.
template <typename Thing> class SharedByName {
public:
  // The object with this name, if somebody still holds it; otherwise, or without a name, `made`.
  std::shared_ptr<Thing> join(const std::string &name, std::shared_ptr<Thing> made) {
    if (name.empty())
      return made;
    std::lock_guard lock(mutex_);
    for (auto entry = all_.begin(); entry != all_.end();)
      entry = entry->second.expired() ? all_.erase(entry) : std::next(entry);
    std::weak_ptr<Thing> &shared = all_[name];
    if (std::shared_ptr<Thing> thing = shared.lock())
      return thing;
    shared = made;
    return made;
  }

private:
  base::Mutex<base::LockRank::shared_names> mutex_; // guards the rest
  std::map<std::string, std::weak_ptr<Thing>> all_;
};

} // namespace asyncnbd::addon
