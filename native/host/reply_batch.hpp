// Replies of one thread that leave together: nbdkit_async_batch_begin and _end.
#pragma once

#include <memory>

namespace asyncnbd::host {

// Has replies that are sent when the batch ends.
class BatchMember {
public:
  virtual ~BatchMember() = default;
  virtual void send_batch() = 0;
};

// Nests; only the outermost sends.
void begin_reply_batch();
void end_reply_batch();

// True: this thread's batch will have the member's replies sent. False: there is no batch.
bool join_reply_batch(const std::shared_ptr<BatchMember> &member);

} // namespace asyncnbd::host
