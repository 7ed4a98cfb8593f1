// See chain.hpp.
#include "backend/chain.hpp"

#include <algorithm>
#include <utility>

namespace asyncnbd::backend {

bool Chain::opens_readonly(bool is_readonly) const {
  for (const std::unique_ptr<Filter> &filter : filters_)
    is_readonly = filter->opens_readonly(is_readonly);
  return is_readonly;
}

bool Chain::keeps_state() const {
  return std::any_of(filters_.begin(), filters_.end(),
                     [](const std::unique_ptr<Filter> &filter) { return filter->keeps_state(); });
}

DiskState *Chain::state_of(const std::string &disk, size_t filter, const Capabilities &below,
                           std::string *error) {
  std::lock_guard lock(mutex_);
  std::vector<std::unique_ptr<DiskState>> &states = disks_[disk].states;
  states.resize(filters_.size());
  if (!states[filter])
    states[filter] = filters_[filter]->new_disk(below, error);
  return states[filter].get();
}

std::unique_ptr<Backend> Chain::open(std::unique_ptr<Backend> *below, const std::string &disk,
                                     bool is_readonly, std::string *error) {
  // What each of them sees of the client's wish depends on those in front of it.
  std::vector<bool> readonly(filters_.size());
  for (size_t i = 0; i < filters_.size(); i++) {
    readonly[i] = is_readonly;
    is_readonly = filters_[i]->opens_readonly(is_readonly);
  }
  std::unique_ptr<Backend> opened = std::move(*below);
  for (size_t i = filters_.size(); i-- > 0;) {
    DiskState *state = state_of(disk, i, opened->capabilities(), error);
    std::unique_ptr<Backend> layer;
    if (error->empty())
      layer = filters_[i]->open(&opened, readonly[i], state, error);
    if (layer == nullptr) {
      opened->close();
      return nullptr;
    }
    opened = std::move(layer);
  }
  return opened;
}

} // namespace asyncnbd::backend
