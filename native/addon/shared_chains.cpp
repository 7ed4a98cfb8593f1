// See shared_chains.hpp.
#include "addon/shared_chains.hpp"

#include <mutex>
#include <utility>

namespace asyncnbd::addon {

uint32_t SharedChains::hold(const std::string &shared_as, const Make &make) {
  std::lock_guard lock(mutex_);
  if (const uint32_t joined = join(shared_as); joined != 0)
    return joined;
  std::shared_ptr<backend::Chain> chain = make();
  if (chain == nullptr)
    return 0;
  chains_[++last_] = {std::move(chain), shared_as};
  return last_;
}

// 0: nobody holds it yet.
uint32_t SharedChains::join(const std::string &shared_as) {
  for (auto &[number, entry] : chains_) {
    if (shared_as.empty() || entry.shared_as != shared_as)
      continue;
    entry.holders++;
    return number;
  }
  return 0;
}

std::shared_ptr<backend::Chain> SharedChains::find(uint32_t number) {
  std::lock_guard lock(mutex_);
  const auto found = chains_.find(number);
  return found == chains_.end() ? nullptr : found->second.chain;
}

std::shared_ptr<backend::Chain> SharedChains::drop(uint32_t number) {
  std::lock_guard lock(mutex_);
  const auto found = chains_.find(number);
  if (found == chains_.end() || --found->second.holders > 0)
    return nullptr;
  std::shared_ptr<backend::Chain> dropped = std::move(found->second.chain);
  chains_.erase(found);
  return dropped;
}

} // namespace asyncnbd::addon
