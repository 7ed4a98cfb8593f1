// An encrypted stream over a plain one: the interface for the handshake and the transmission loop.
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
  // Returns the number of bytes, 0 at the end of the stream, -EAGAIN if nothing has arrived, or
  // another negative errno on failure.
  virtual ssize_t receive_raw(void *data, size_t capacity_bytes) = 0;
  // Sends what it can. `may_block`: waits until it can send something. Otherwise -EAGAIN if there
  // is no room.
  virtual ssize_t send_raw(const iovec *buffers, size_t count, bool may_block) = 0;
};

class SecureStream {
public:
  virtual ~SecureStream() = default;

  // To be called again when `raw` has what it wants. `failed`: error() tells why.
  virtual Progress handshake(RawStream &raw) = 0;

  // As in RawStream. One thread may receive while another sends, but only one each. After a send
  // that was incomplete, the next one must continue with the rest.
  virtual ssize_t receive(RawStream &raw, void *data, size_t capacity_bytes) = 0;
  virtual ssize_t send(RawStream &raw, const iovec *buffers, size_t count, bool may_block) = 0;

  // Receiving may produce answers of the protocol itself, which are owed to the peer. send_answers
  // works like send, also one thread at a time, and returns 0 when none are left. If there are too
  // many, receiving fails.
  virtual bool has_answers() const = 0;
  virtual ssize_t send_answers(RawStream &raw, bool may_block) = 0;

  // Tells the peer that nothing follows, if there is room. After the last send.
  virtual void say_goodbye(RawStream &raw) = 0;

  virtual std::string error() const = 0;

  // The subject of the peer's verified certificate, and its issuer (RFC 4514); empty without a
  // certificate. After the handshake.
  virtual std::string peer_name() const = 0;
  virtual std::string issuer_name() const = 0;
};

} // namespace asyncnbd::transport
