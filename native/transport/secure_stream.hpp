// A stream through encryption, over one that is not: the face that the handshake and the
// transmission loop see, whatever is behind it.
#pragma once

#include <string>
#include <sys/types.h>
#include <sys/uio.h>

namespace asyncnbd::transport {

enum class Progress { done, wants_input, wants_output, ended, failed };

// Bytes as they are on the wire.
class RawStream {
public:
  virtual ~RawStream() = default;
  // The number of bytes, 0 at the end of the stream, -EAGAIN if nothing has arrived, another
  // negative errno on failure.
  virtual ssize_t receive_raw(void *data, size_t capacity_bytes) = 0;
  // Sends what it can. `may_block`: waits until that is something. Otherwise -EAGAIN if there is
  // no room.
  virtual ssize_t send_raw(const iovec *buffers, size_t count, bool may_block) = 0;
};

class SecureStream {
public:
  virtual ~SecureStream() = default;

  // To be called again when `raw` has what it wants. `failed`: error() tells why.
  virtual Progress handshake(RawStream &raw) = 0;

  // As RawStream's. Receiving may run beside sending, neither beside itself. After a send that
  // has not sent all, the next one must go on with the rest.
  virtual ssize_t receive(RawStream &raw, void *data, size_t capacity_bytes) = 0;
  virtual ssize_t send(RawStream &raw, const iovec *buffers, size_t count, bool may_block) = 0;

  // What the peer is owed besides what is sent: receiving it may make answers of its own. As send,
  // and like it not beside itself; 0 when there is none left. If there are too many, receiving
  // fails.
  virtual bool has_answers() const = 0;
  virtual ssize_t send_answers(RawStream &raw, bool may_block) = 0;

  // Tells the peer that nothing follows, if there is room. After the last send.
  virtual void say_goodbye(RawStream &raw) = 0;

  virtual std::string error() const = 0;

  // Of the peer's verified certificate, and of who has issued it (RFC 4514); empty if there is
  // none. After the handshake.
  virtual std::string peer_name() const = 0;
  virtual std::string issuer_name() const = 0;
};

} // namespace asyncnbd::transport
