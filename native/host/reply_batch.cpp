// See reply_batch.hpp.
#include "host/reply_batch.hpp"

#include <algorithm>
#include <vector>

#include "base/thread_end.hpp"
#include "host/abi.hpp"

namespace asyncnbd::host {

namespace {

struct Batch {
  unsigned depth = 0;
  std::vector<std::shared_ptr<BatchMember>> members;
};

Batch &batch_of_this_thread() {
  constinit static thread_local Batch *batch = nullptr;
  return batch != nullptr ? *batch : base::make_for_thread(batch);
}

} // namespace

void begin_reply_batch() {
  batch_of_this_thread().depth++;
}

void end_reply_batch() {
  Batch &batch = batch_of_this_thread();
  if (batch.depth == 0 || --batch.depth > 0)
    return;
  // Sending may call the plugin, which may begin a batch of its own.
  std::vector<std::shared_ptr<BatchMember>> members = std::move(batch.members);
  for (const std::shared_ptr<BatchMember> &member : members)
    member->send_batch();
  members.clear();
  if (batch.members.empty())
    batch.members = std::move(members); // to reuse its memory
}

bool join_reply_batch(const std::shared_ptr<BatchMember> &member) {
  Batch &batch = batch_of_this_thread();
  if (batch.depth == 0)
    return false;
  // Newest first: replies to one client mostly follow each other.
  if (std::find(batch.members.rbegin(), batch.members.rend(), member) == batch.members.rend())
    batch.members.push_back(member);
  return true;
}

} // namespace asyncnbd::host

extern "C" {

NBDKIT_DLL_PUBLIC void nbdkit_async_batch_begin(void) {
  asyncnbd::host::begin_reply_batch();
}

NBDKIT_DLL_PUBLIC void nbdkit_async_batch_end(void) {
  asyncnbd::host::end_reply_batch();
}

} // extern "C"
