// See multi_conn_client.hpp.
#include "filters/multi_conn_client.hpp"

#include <cerrno>
#include <new>
#include <vector>

namespace asyncnbd::filters {

using backend::Caller;
using backend::Request;

void ClientFlushes::submit(Request &request, Caller caller) {
  const uint64_t time = client_.members->now();
  std::vector<SharedMember> others;
  if (client_.flushes_all)
    others = client_.members->hold_others(*client_.group, *client_.member, client_.track);
  if (others.empty()) {
    flush_own(request, time, caller);
    return;
  }
  auto *flush =
      new (std::nothrow) FlushOthers(*this, client_.members, others, request, time, threads_);
  if (flush != nullptr) {
    flush->begin(caller);
    return;
  }
  client_.members->forget(others);
  request.complete(ENOMEM);
}

void ClientFlushes::flush_own(Request &request, uint64_t time, Caller caller) {
  if (!is_needed()) {
    if (client_.flushes_all)
      note_flushed(time);
    request.complete(0);
    return;
  }
  if (!request.completers.push(*this, reinterpret_cast<void *>(static_cast<uintptr_t>(time)))) {
    request.complete(ENOMEM);
    return;
  }
  below_.submit(request, caller);
}

bool ClientFlushes::is_needed() const {
  if (client_.flushes_all)
    return needs_flush(*client_.group, *client_.member, client_.track);
  return client_.track == TrackDirty::off ||
         client_.group->written.is_after(client_.group->flushed);
}

// Called after a flush that has succeeded.
void ClientFlushes::note_flushed(uint64_t time) {
  if (client_.flushes_all) {
    client_.member->flushed.raise(time);
    client_.group->flushed.raise(time);
  } else if (client_.track == TrackDirty::fast) {
    client_.group->flushed.raise(time);
  } else if (client_.track == TrackDirty::connection) {
    if (below_.facts().can_multi_conn)
      client_.members->note_flushed(*client_.group, time);
    else
      client_.member->flushed.raise(time);
  }
}

void ClientFlushes::complete(Request &request, int error) {
  const auto time =
      static_cast<uint64_t>(reinterpret_cast<uintptr_t>(request.completers.pop(*this)));
  if (error == 0)
    note_flushed(time);
  request.complete(error);
}

void ClientFlushes::give_up(Request &request, int error) {
  request.completers.pop(*this);
  request.give_up(error);
}

} // namespace asyncnbd::filters
