// See multi_conn_group.hpp.
#include "filters/multi_conn_group.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

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

// Call it with the lock held.
void Members::unlink(const SharedGroup &group, const SharedMember &member) {
  auto &members = group->members;
  members.erase(std::remove(members.begin(), members.end(), member), members.end());
  if (members.empty())
    groups_.erase(std::remove(groups_.begin(), groups_.end(), group), groups_.end());
}

void Members::leave(const SharedGroup &group, const SharedMember &member) {
  std::unique_lock lock(mutex_);
  unlink(group, member);
  while (member->users > 0 || (member->awaited > 0 && member->below != nullptr))
    changed_.wait(lock);
  member->below.reset();
}

bool Members::leave_unused(const SharedGroup &group, const SharedMember &member,
                           std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  unlink(group, member);
  member->is_unused = true;
  member->is_client_gone = false;
  member->below.reset();
  changed_.wait_for(lock, patience, [&member] { return member->users == 0; });
  return member->users == 0;
}

bool Members::give_up(Member &member) {
  std::lock_guard lock(mutex_);
  member.below.reset(); // the layer has it too
  changed_.notify_all();
  return std::exchange(member.is_client_gone, false);
}

bool Members::tell_gone_later(Member &member) {
  std::lock_guard lock(mutex_);
  member.is_client_gone = member.below != nullptr && member.awaited + member.users > 0;
  return member.is_client_gone;
}

std::vector<SharedMember> Members::hold_others(const Group &group, const Member &member,
                                               TrackDirty track) {
  std::vector<SharedMember> held;
  std::lock_guard lock(mutex_);
  for (const SharedMember &other : group.members) {
    if (other.get() == &member || !needs_flush(group, *other, track))
      continue;
    other->awaited++;
    held.push_back(other);
  }
  return held;
}

void Members::use(Member &member) {
  member.awaited--;
  member.users++;
}

// The backend below stays as long as there are users. This thread drops its own reference while it
// still counts as one, so that it never is the one that destroys the backend.
void Members::let_go(Member &member) {
  std::unique_lock lock(mutex_);
  if (member.is_client_gone && member.awaited + member.users == 1) {
    member.is_client_gone = false;
    std::shared_ptr<backend::Backend> below = member.below;
    lock.unlock();
    below->on_client_gone();
    below.reset();
    lock.lock();
  }
  member.users--;
  changed_.notify_all();
}

void Members::forget(const std::vector<SharedMember> &awaited) {
  for (const SharedMember &member : awaited) {
    {
      std::lock_guard lock(mutex_);
      use(*member);
    }
    let_go(*member);
  }
}

bool Members::is_unused(const Member &member) {
  std::lock_guard lock(mutex_);
  return member.is_unused;
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
