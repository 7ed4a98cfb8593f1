// The filters in front of a plugin, and what they keep of its disks.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/filter.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::backend {

// Lives from before the first client to after the last; shared by all threads that serve it.
class Chain {
public:
  // Clients meet the first.
  explicit Chain(std::vector<std::unique_ptr<Filter>> filters) : filters_(std::move(filters)) {}
  Chain(const Chain &) = delete;
  Chain &operator=(const Chain &) = delete;

  // How the plugin is to be opened for a client that may be read-only.
  bool opens_readonly(bool is_readonly) const;

  // Whether it matters which disk a client opens.
  bool keeps_state() const;

  // Puts the filters in front of `*below`, an open export of the disk `disk`: a name that the
  // plugin lists, or "" for all others. May block. nullptr, with `*below` closed and words for the
  // user in `*error`, on failure.
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const std::string &disk,
                                bool is_readonly, std::string *error);

private:
  struct Disk {
    // By filter. nullptr: not yet, or nothing.
    std::vector<std::unique_ptr<DiskState>> states;
  };

  DiskState *state_of(const std::string &disk, size_t filter, const Capabilities &below,
                      std::string *error);

  const std::vector<std::unique_ptr<Filter>> filters_;
  base::Mutex<base::LockRank::chain> mutex_; // guards disks_, also while a state is made
  std::map<std::string, Disk> disks_;
};

} // namespace asyncnbd::backend
