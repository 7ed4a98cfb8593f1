// One connection's TLS. It makes and reads records in memory, many for each system call.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <openssl/ssl.h>
#include <string>

#include "base/mutex.hpp"
#include "transport/secure_stream.hpp"
#include "transport/tls.hpp"

namespace asyncnbd::transport {

// A queue of bytes.
class ByteQueue {
public:
  void append(const uint8_t *bytes, size_t count);
  // Takes up to `capacity` bytes, and returns how many.
  size_t take(uint8_t *bytes, size_t capacity);
  const uint8_t *data() const { return memory_.get() + begin_; }
  size_t size() const { return end_ - begin_; }
  void drop(size_t bytes);

  // Memory that the caller fills; the queue must be empty.
  uint8_t *room(size_t bytes);
  void filled(size_t bytes) { end_ = bytes; }

private:
  void reserve(size_t bytes);

  std::unique_ptr<uint8_t[]> memory_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
};

class TlsStream final : public SecureStream {
public:
  // Takes ownership of `ssl`, which was made from `context`.
  TlsStream(std::shared_ptr<TlsContext> context, SSL *ssl);
  ~TlsStream() override;
  TlsStream(const TlsStream &) = delete;
  TlsStream &operator=(const TlsStream &) = delete;

  Progress handshake(RawStream &raw) override;
  ssize_t receive(RawStream &raw, void *data, size_t capacity_bytes) override;
  ssize_t send(RawStream &raw, const iovec *buffers, size_t count, bool may_block) override;
  bool has_answers() const override { return has_answers_.load(std::memory_order_relaxed); }
  ssize_t send_answers(RawStream &raw, bool may_block) override { return flush(raw, may_block); }
  void say_goodbye(RawStream &raw) override;
  std::string error() const override { return error_; }
  std::string peer_name() const override;
  std::string issuer_name() const override;

private:
  friend struct QueueBio;
  ssize_t decrypt(uint8_t *data, size_t capacity_bytes);
  ssize_t fill(RawStream &raw);
  ssize_t encrypt(const iovec *buffers, size_t count, size_t skipped_bytes);
  bool write_record(const uint8_t *data, size_t length_bytes);
  ssize_t flush(RawStream &raw, bool may_block);
  std::string describe_failure() const;

  const std::shared_ptr<TlsContext> context_;
  SSL *const ssl_;
  std::string error_;

  base::Mutex<base::LockRank::tls_stream> mutex_; // guards ssl_ and its output
  ByteQueue produced_;                            // finished records

  // A hint: receiving has produced some. Changed with the lock held; a read without the lock pairs
  // with nothing.
  std::atomic<bool> has_answers_{false};
  size_t answer_bytes_ = 0; // the reader's: answers in produced_, perhaps among other records

  // How much is made into records at once. An estimate: pairs with nothing.
  std::atomic<size_t> turn_bytes_;

  // The reader's.
  ByteQueue received_;
  bool is_starved_ = false; // ssl_ has used up what was received

  // The sender's.
  ByteQueue sending_;
  size_t held_bytes_ = 0; // in records, but not yet reported as sent
  std::unique_ptr<uint8_t[]> gathered_;
};

} // namespace asyncnbd::transport
