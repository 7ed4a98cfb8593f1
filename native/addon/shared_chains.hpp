// The chains of filters in the process, by numbers that its threads pass each other.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "backend/chain.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::addon {

// Any thread.
class SharedChains {
public:
  using Make = std::function<std::shared_ptr<backend::Chain>()>;

  // The number of the chain that others hold under this name, or else of the one that `make` makes;
  // 0 if that is nullptr. "": not shared.
  uint32_t hold(const std::string &shared_as, const Make &make);
  // nullptr: no such number.
  std::shared_ptr<backend::Chain> find(uint32_t number);
  // Called once by each holder. Returns the chain to the last one, which must end it; nullptr to
  // others.
  std::shared_ptr<backend::Chain> drop(uint32_t number);

private:
  struct Entry {
    std::shared_ptr<backend::Chain> chain;
    std::string shared_as;
    unsigned holders = 1;
  };

  uint32_t join(const std::string &shared_as);

  base::Mutex<base::LockRank::chains> mutex_; // guards the rest
  uint32_t last_ = 0;
  std::map<uint32_t, Entry> chains_;
};

} // namespace asyncnbd::addon
