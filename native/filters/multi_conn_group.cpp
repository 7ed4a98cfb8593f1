// See multi_conn_group.hpp.
#include "filters/multi_conn_group.hpp"

#include <algorithm>
#include <mutex>

namespace asyncnbd::filters {

SharedGroup Members::join(const std::string &name, const SharedMember &member) {
  std::lock_guard lock(mutex_);
  auto found = std::find_if(groups_.begin(), groups_.end(),
                            [&name](const SharedGroup &group) { return group->name == name; });
  if (found == groups_.end()) {
    auto group = std::make_shared<Group>();
    group->name = name;
    found = groups_.insert(groups_.end(), std::move(group));
  }
  (*found)->members.push_back(member);
  return *found;
}

void Members::leave(const SharedGroup &group, const SharedMember &member) {
  std::unique_lock lock(mutex_);
  auto &members = group->members;
  members.erase(std::remove(members.begin(), members.end(), member), members.end());
  if (members.empty())
    groups_.erase(std::remove(groups_.begin(), groups_.end(), group), groups_.end());
  while (member->users > 0)
    changed_.wait(lock);
}

std::vector<SharedMember> Members::hold_others(const Group &group, const Member &member,
                                               TrackDirty track) {
  std::vector<SharedMember> held;
  std::lock_guard lock(mutex_);
  for (const SharedMember &other : group.members) {
    if (other.get() == &member || !needs_flush(group, *other, track))
      continue;
    other->users++;
    held.push_back(other);
  }
  return held;
}

void Members::let_go(const std::vector<SharedMember> &held) {
  std::lock_guard lock(mutex_);
  for (const SharedMember &member : held)
    member->users--;
  changed_.notify_all();
}

void Members::note_flushed(Group &group, uint64_t time) {
  std::lock_guard lock(mutex_);
  for (const SharedMember &member : group.members)
    member->flushed.raise(time);
  group.flushed.raise(time);
}

bool needs_flush(const Group &group, const Member &member, TrackDirty track) {
  if (track == TrackDirty::off || member.written.is_after(member.flushed))
    return true;
  const bool may_be_stale = track == TrackDirty::fast || member.read.is_after(member.flushed);
  return may_be_stale && group.written.is_after(group.flushed);
}

} // namespace asyncnbd::filters
