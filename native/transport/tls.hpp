// TLS with the OpenSSL inside Node. What a server needs is loaded once; each connection has a
// stream.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <openssl/ssl.h>
#include <string>
#include <vector>

#include "transport/secure_stream.hpp"

namespace asyncnbd::transport {

// Paths of PEM files, or of a file of pre-shared keys. Empty: none.
struct TlsOptions {
  std::string ca_certificates;
  std::string certificate;
  std::string key;
  std::string revocations;
  std::string pre_shared_keys; // instead of certificates
  bool verify_peer = false;
  int min_version = TLS1_2_VERSION;
  int max_version = 0;       // 0: the highest
  std::string ciphers;       // of TLS 1.2, as OpenSSL has it; empty: its default
  std::string cipher_suites; // of TLS 1.3
};

// Thread-safe once it is loaded.
class TlsContext : public std::enable_shared_from_this<TlsContext> {
public:
  // nullptr if files are missing or wrong; then *error has a message.
  static std::shared_ptr<TlsContext> load(const TlsOptions &options, std::string *error);
  ~TlsContext();
  TlsContext(const TlsContext &) = delete;
  TlsContext &operator=(const TlsContext &) = delete;

  // For one client. nullptr if there is no memory.
  std::unique_ptr<SecureStream> accept();

  // nullptr: unknown user.
  const std::vector<uint8_t> *key_of(const std::string &user) const;

private:
  explicit TlsContext(SSL_CTX *context) : context_(context) {}
  bool load_certificates(const TlsOptions &options, std::string *error);
  bool load_revocations(const std::string &path, std::string *error);
  bool load_keys(const std::string &path, std::string *error);
  bool set_protocol(const TlsOptions &options, std::string *error);

  SSL_CTX *const context_;
  std::map<std::string, std::vector<uint8_t>> keys_;
};

} // namespace asyncnbd::transport
