// See tls_stream.hpp.
#include "transport/tls_stream.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <utility>

namespace asyncnbd::transport {

namespace {

constexpr size_t RECORD_BYTES = 16 << 10; // the most that TLS allows in one
// How much is received, or made into records, at once: it stays in the L2 cache.
constexpr size_t RECEIVE_BYTES = 128 << 10;
constexpr size_t MAX_TURN_BYTES = 128 << 10;
// After a pause: the client decrypts the first records while we make the next ones.
constexpr size_t FIRST_TURN_BYTES = 32 << 10;
// Limits for answers that are waiting. From the first on, they are sent before more is received.
// Above the second, the client only makes us answer and does not read: receiving fails.
constexpr size_t MANY_ANSWERS_BYTES = 4 << 10;
constexpr size_t MAX_ANSWER_BYTES = 512 << 10;
// Records are a little longer than their contents.
constexpr size_t FIRST_CAPACITY_BYTES = MAX_TURN_BYTES + (8 << 10);

} // namespace

// ---- a queue as OpenSSL's input and output ---------------------------------------------------

void ByteQueue::reserve(size_t bytes) {
  if (begin_ == end_)
    begin_ = end_ = 0;
  if (capacity_ - end_ >= bytes)
    return;
  const size_t wanted = std::max({FIRST_CAPACITY_BYTES, 2 * capacity_, size() + bytes});
  std::unique_ptr<uint8_t[]> larger(new uint8_t[wanted]);
  if (size() > 0)
    memcpy(larger.get(), data(), size());
  end_ = size();
  begin_ = 0;
  memory_ = std::move(larger);
  capacity_ = wanted;
}

void ByteQueue::append(const uint8_t *bytes, size_t count) {
  reserve(count);
  memcpy(memory_.get() + end_, bytes, count);
  end_ += count;
}

size_t ByteQueue::take(uint8_t *bytes, size_t capacity) {
  const size_t taken = std::min(capacity, size());
  if (taken > 0)
    memcpy(bytes, data(), taken);
  begin_ += taken;
  return taken;
}

void ByteQueue::drop(size_t bytes) {
  begin_ += bytes;
}

uint8_t *ByteQueue::room(size_t bytes) {
  reserve(bytes);
  return memory_.get();
}

struct QueueBio {
  static int write(BIO *bio, const char *data, int count) {
    auto *stream = static_cast<TlsStream *>(BIO_get_data(bio));
    stream->produced_.append(reinterpret_cast<const uint8_t *>(data), static_cast<size_t>(count));
    return count;
  }

  static int read(BIO *bio, char *data, int capacity) {
    auto *stream = static_cast<TlsStream *>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const size_t taken =
        stream->received_.take(reinterpret_cast<uint8_t *>(data), static_cast<size_t>(capacity));
    if (taken > 0)
      return static_cast<int>(taken);
    BIO_set_retry_read(bio);
    return -1;
  }

  static long control(BIO *, int command, long, void *) {
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }

  static BIO_METHOD *method() {
    static BIO_METHOD *const made = [] {
      BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "asyncnbd");
      BIO_meth_set_write(method, write);
      BIO_meth_set_read(method, read);
      BIO_meth_set_ctrl(method, control);
      return method;
    }();
    return made;
  }
};

std::unique_ptr<SecureStream> TlsContext::accept() {
  SSL *ssl = SSL_new(context_);
  if (ssl == nullptr)
    return nullptr;
  return std::make_unique<TlsStream>(shared_from_this(), ssl);
}

TlsStream::TlsStream(std::shared_ptr<TlsContext> context, SSL *ssl)
    : context_(std::move(context)), ssl_(ssl), turn_bytes_(FIRST_TURN_BYTES) {
  BIO *bio = BIO_new(QueueBio::method());
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_accept_state(ssl_);
}

TlsStream::~TlsStream() {
  SSL_free(ssl_);
}

// ---- the handshake ---------------------------------------------------------------------------

Progress TlsStream::handshake(RawStream &raw) {
  for (;;) {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_);
    const int reason = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl_, result);
    if (reason != SSL_ERROR_NONE && reason != SSL_ERROR_WANT_READ)
      error_ = describe_failure();
    const ssize_t flushed = flush(raw, false); // an alert too
    if (reason != SSL_ERROR_NONE && reason != SSL_ERROR_WANT_READ)
      return Progress::failed;
    if (flushed == -EAGAIN)
      return Progress::wants_output;
    if (flushed < 0)
      return Progress::ended;
    if (reason == SSL_ERROR_NONE)
      return Progress::done;
    const ssize_t received = fill(raw);
    if (received == -EAGAIN)
      return Progress::wants_input;
    if (received <= 0)
      return Progress::ended;
  }
}

std::string TlsStream::describe_failure() const {
  const unsigned long code = ERR_peek_last_error();
  const long verified = SSL_get_verify_result(ssl_);
  if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK)
    return std::string("the client's certificate was rejected: ") +
           X509_verify_cert_error_string(verified);
  if (ERR_GET_REASON(code) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
    return "the client sent no certificate";
  const char *text = ERR_reason_error_string(code);
  return text != nullptr ? text : "the stream is broken";
}

namespace {

std::string text_of(const X509_NAME *name) {
  BIO *memory = BIO_new(BIO_s_mem());
  X509_NAME_print_ex(memory, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  char *text = nullptr;
  const long bytes = BIO_get_mem_data(memory, &text);
  std::string result(text, static_cast<size_t>(bytes));
  BIO_free(memory);
  return result;
}

template <typename Name> std::string of_certificate(const SSL *ssl, Name name) {
  X509 *certificate = SSL_get0_peer_certificate(ssl);
  const bool is_verified = (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) != 0;
  return certificate == nullptr || !is_verified ? "" : text_of(name(certificate));
}

} // namespace

std::string TlsStream::peer_name() const {
  return of_certificate(ssl_, X509_get_subject_name);
}

std::string TlsStream::issuer_name() const {
  return of_certificate(ssl_, X509_get_issuer_name);
}

// ---- receiving -------------------------------------------------------------------------------

// Receives more encrypted bytes.
ssize_t TlsStream::fill(RawStream &raw) {
  const ssize_t received = raw.receive_raw(received_.room(RECEIVE_BYTES), RECEIVE_BYTES);
  if (received > 0) {
    received_.filled(static_cast<size_t>(received));
    is_starved_ = false;
  }
  return received;
}

ssize_t TlsStream::receive(RawStream &raw, void *data, size_t capacity_bytes) {
  for (;;) {
    if (!is_starved_) {
      const ssize_t decrypted = decrypt(static_cast<uint8_t *>(data), capacity_bytes);
      if (decrypted != -EAGAIN)
        return decrypted;
      is_starved_ = true;
      if (answer_bytes_ > MAX_ANSWER_BYTES)
        return -EPROTO;
      if (answer_bytes_ > MANY_ANSWERS_BYTES)
        return -EAGAIN;
    }
    if (const ssize_t received = fill(raw); received <= 0) {
      turn_bytes_.store(FIRST_TURN_BYTES, std::memory_order_relaxed);
      return received;
    }
  }
}

ssize_t TlsStream::decrypt(uint8_t *data, size_t capacity_bytes) {
  std::lock_guard lock(mutex_);
  size_t total = 0;
  int result = 1;
  ERR_clear_error();
  while (result > 0 && total < capacity_bytes) {
    result = SSL_read(ssl_, data + total,
                      static_cast<int>(std::min<size_t>(capacity_bytes - total, INT_MAX)));
    total += result > 0 ? static_cast<size_t>(result) : 0;
  }
  answer_bytes_ = produced_.size();
  if (answer_bytes_ > 0)
    has_answers_.store(true, std::memory_order_relaxed);
  if (total > 0)
    return static_cast<ssize_t>(total);
  switch (SSL_get_error(ssl_, result)) {
  case SSL_ERROR_WANT_READ:
    return -EAGAIN;
  case SSL_ERROR_ZERO_RETURN: // the client has said goodbye
    return 0;
  default:
    return -EPROTO;
  }
}

// ---- sending ---------------------------------------------------------------------------------

// A record cannot be taken back, but the caller keeps bytes that are not sent and offers them
// again. So as long as records wait for room, the last byte in them counts as not sent.
ssize_t TlsStream::send(RawStream &raw, const iovec *buffers, size_t count, bool may_block) {
  if (const ssize_t error = flush(raw, may_block); error < 0)
    return error;
  const size_t already = std::exchange(held_bytes_, 0);
  const ssize_t encrypted = encrypt(buffers, count, already);
  if (encrypted < 0)
    return encrypted;
  const ssize_t accepted = static_cast<ssize_t>(already) + encrypted;
  const ssize_t error = flush(raw, may_block);
  if (error == 0)
    return accepted;
  if (error != -EAGAIN)
    return error;
  held_bytes_ = 1;
  return accepted > 1 ? accepted - 1 : -EAGAIN;
}

// Makes records of the bytes after the first `skipped_bytes`, and returns how many. Small pieces
// share a record.
ssize_t TlsStream::encrypt(const iovec *buffers, size_t count, size_t skipped_bytes) {
  std::lock_guard lock(mutex_);
  ERR_clear_error();
  const size_t turn_bytes = turn_bytes_.load(std::memory_order_relaxed);
  turn_bytes_.store(std::min(2 * turn_bytes, MAX_TURN_BYTES), std::memory_order_relaxed);
  size_t total = 0;
  size_t gathered = 0;
  for (size_t i = 0; i < count && total < turn_bytes; i++) {
    const size_t skipped = std::min(skipped_bytes, buffers[i].iov_len);
    skipped_bytes -= skipped;
    const uint8_t *data = static_cast<const uint8_t *>(buffers[i].iov_base) + skipped;
    size_t left = std::min(buffers[i].iov_len - skipped, turn_bytes - total);
    total += left;
    while (left > 0) {
      if (gathered == 0 && left >= RECORD_BYTES) {
        const size_t whole = left / RECORD_BYTES * RECORD_BYTES;
        if (!write_record(data, whole))
          return -EPROTO;
        data += whole;
        left -= whole;
        continue;
      }
      if (!gathered_)
        gathered_.reset(new uint8_t[RECORD_BYTES]);
      const size_t part = std::min(left, RECORD_BYTES - gathered);
      memcpy(gathered_.get() + gathered, data, part);
      gathered += part;
      data += part;
      left -= part;
      if (gathered == RECORD_BYTES && !write_record(gathered_.get(), std::exchange(gathered, 0)))
        return -EPROTO;
    }
  }
  if (gathered > 0 && !write_record(gathered_.get(), gathered))
    return -EPROTO;
  return static_cast<ssize_t>(total);
}

bool TlsStream::write_record(const uint8_t *data, size_t length_bytes) {
  return SSL_write(ssl_, data, static_cast<int>(length_bytes)) == static_cast<int>(length_bytes);
}

// Returns 0 when all finished records have been sent.
ssize_t TlsStream::flush(RawStream &raw, bool may_block) {
  for (;;) {
    while (sending_.size() > 0) {
      const iovec rest{const_cast<uint8_t *>(sending_.data()), sending_.size()};
      const ssize_t sent = raw.send_raw(&rest, 1, may_block);
      if (sent < 0)
        return sent;
      sending_.drop(static_cast<size_t>(sent));
    }
    std::lock_guard lock(mutex_);
    if (produced_.size() == 0) {
      has_answers_.store(false, std::memory_order_relaxed);
      return 0;
    }
    std::swap(sending_, produced_);
  }
}

void TlsStream::say_goodbye(RawStream &raw) {
  {
    std::lock_guard lock(mutex_);
    ERR_clear_error();
    SSL_shutdown(ssl_);
    ERR_clear_error();
  }
  flush(raw, false);
}

} // namespace asyncnbd::transport
