// Carries out a client's flush: decides whether there is anything to flush, and flushes the other
// clients first.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/backend.hpp"
#include "base/threads.hpp"
#include "filters/multi_conn_flush.hpp"
#include "filters/multi_conn_group.hpp"

namespace asyncnbd::filters {

// A client, and the clients that it belongs with.
struct Membership {
  const bool flushes_all; // its flush is one of all members
  const TrackDirty track;
  const std::shared_ptr<Members> members;
  const SharedMember member;
  SharedGroup group; // once it has joined
};

// The state that is pushed with a flush is the time when it began.
class ClientFlushes final : private FlushOwner, private backend::Completer {
public:
  ClientFlushes(backend::Backend &below, const Membership &client, base::Threads &threads)
      : below_(below), client_(client), threads_(threads) {}

  void submit(backend::Request &request, backend::Caller caller);
  // Answers the client's flushes that still wait for flushes of others.
  void abandon_others() { FlushOthers::abandon_all(*this, *client_.members); }

private:
  void on_others_flushed(backend::Request &request, uint64_t time,
                         backend::Caller caller) override {
    flush_own(request, time, caller);
  }
  void flush_own(backend::Request &request, uint64_t time, backend::Caller caller);
  bool is_needed() const;
  void note_flushed(uint64_t time);

  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;

  backend::Backend &below_;
  const Membership &client_;
  base::Threads &threads_;
};

} // namespace asyncnbd::filters
