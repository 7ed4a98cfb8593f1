// What a server needs for TLS: certificates or pre-shared keys, and which versions and ciphers.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <unistd.h>

#include "transport/tls.hpp"

#include "base/error_numbers.hpp"

namespace asyncnbd::transport {

namespace {

constexpr size_t MAX_KEY_BYTES = 256;

// Ciphers that work with a pre-shared key, those with forward secrecy first.
constexpr char PRE_SHARED_CIPHERS[] = "kECDHEPSK:kDHEPSK:kPSK:!eNULL:!3DES:!SEED:!RC4";

std::string last_reason() {
  const unsigned long code = ERR_peek_last_error();
  const char *reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : base::error_text(errno);
}

bool fail(std::string *error, const std::string &what, const std::string &path) {
  *error = what + " " + path + ": " +
           (access(path.c_str(), R_OK) == 0 ? last_reason() : base::error_text(errno));
  return false;
}

int from_hex(char digit) {
  if (digit >= '0' && digit <= '9')
    return digit - '0';
  const char lower = static_cast<char>(digit | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Empty if it is no key.
std::vector<uint8_t> parse_key(const std::string &hex) {
  std::vector<uint8_t> key;
  if (hex.empty() || hex.size() % 2 != 0 || hex.size() > 2 * MAX_KEY_BYTES)
    return {};
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int upper = from_hex(hex[i]);
    const int lower = from_hex(hex[i + 1]);
    if (upper < 0 || lower < 0)
      return {};
    key.push_back(static_cast<uint8_t>(upper << 4 | lower));
  }
  return key;
}

const TlsContext *context_of(SSL *ssl) {
  return static_cast<const TlsContext *>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
}

// TLS 1.2: puts the user's key into `key` and returns its length; 0: unknown user.
unsigned find_key(SSL *ssl, const char *user, unsigned char *key, unsigned capacity) {
  const std::vector<uint8_t> *found = context_of(ssl)->key_of(user);
  if (found == nullptr || found->size() > capacity)
    return 0;
  memcpy(key, found->data(), found->size());
  return static_cast<unsigned>(found->size());
}

// TLS 1.3: a key is a session that both sides share from before. Returns 0 if the handshake cannot
// go on; an unknown user gets no session.
int find_session(SSL *ssl, const unsigned char *identity, size_t length_bytes,
                 SSL_SESSION **session) {
  constexpr unsigned char AES_128_GCM_SHA256[] = {0x13, 0x01};
  *session = nullptr;
  const std::string user(reinterpret_cast<const char *>(identity), length_bytes);
  const std::vector<uint8_t> *key = context_of(ssl)->key_of(user);
  if (key == nullptr)
    return 1;
  SSL_SESSION *made = SSL_SESSION_new();
  const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, AES_128_GCM_SHA256);
  if (made == nullptr || cipher == nullptr ||
      SSL_SESSION_set1_master_key(made, key->data(), key->size()) != 1 ||
      SSL_SESSION_set_cipher(made, cipher) != 1 ||
      SSL_SESSION_set_protocol_version(made, TLS1_3_VERSION) != 1) {
    SSL_SESSION_free(made);
    return 0;
  }
  *session = made;
  return 1;
}

} // namespace

std::shared_ptr<TlsContext> TlsContext::load(const TlsOptions &options, std::string *error) {
  ERR_clear_error();
  SSL_CTX *raw = SSL_CTX_new(TLS_server_method());
  if (raw == nullptr) {
    *error = "cannot set up TLS: " + last_reason();
    return nullptr;
  }
  std::shared_ptr<TlsContext> context(new TlsContext(raw));
  SSL_CTX_set_app_data(raw, context.get());
  // Each connection authenticates anew, and nothing is sent that only helps to resume a session.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(raw, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_dh_auto(raw, 1);
  const bool loaded = options.pre_shared_keys.empty()
                          ? context->load_certificates(options, error)
                          : context->load_keys(options.pre_shared_keys, error);
  return loaded && context->set_protocol(options, error) ? context : nullptr;
}

TlsContext::~TlsContext() {
  SSL_CTX_free(context_);
  for (auto &[user, key] : keys_)
    explicit_bzero(key.data(), key.size());
}

bool TlsContext::set_protocol(const TlsOptions &options, std::string *error) {
  SSL_CTX_set_min_proto_version(context_, options.min_version);
  SSL_CTX_set_max_proto_version(context_, options.max_version);
  if (!options.ciphers.empty() && SSL_CTX_set_cipher_list(context_, options.ciphers.c_str()) != 1) {
    *error = "\"" + options.ciphers + "\" selects no TLS 1.2 cipher";
    return false;
  }
  if (!options.cipher_suites.empty() &&
      SSL_CTX_set_ciphersuites(context_, options.cipher_suites.c_str()) != 1) {
    *error = "\"" + options.cipher_suites + "\" selects no TLS 1.3 cipher suite";
    return false;
  }
  return true;
}

bool TlsContext::load_certificates(const TlsOptions &options, std::string *error) {
  if (SSL_CTX_use_certificate_chain_file(context_, options.certificate.c_str()) != 1)
    return fail(error, "cannot load the server's certificate", options.certificate);
  if (SSL_CTX_use_PrivateKey_file(context_, options.key.c_str(), SSL_FILETYPE_PEM) != 1)
    return fail(error, "cannot load the server's private key", options.key);
  if (SSL_CTX_check_private_key(context_) != 1) {
    *error = "the private key " + options.key + " does not belong to the certificate " +
             options.certificate;
    return false;
  }
  if (SSL_CTX_load_verify_locations(context_, options.ca_certificates.c_str(), nullptr) != 1)
    return fail(error, "cannot load the certificates of authorities", options.ca_certificates);
  if (!options.revocations.empty() && !load_revocations(options.revocations, error))
    return false;
  if (!options.verify_peer)
    return true;
  // Tells clients which authorities may have issued their certificates.
  SSL_CTX_set_client_CA_list(context_, SSL_load_client_CA_file(options.ca_certificates.c_str()));
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return true;
}

bool TlsContext::load_revocations(const std::string &path, std::string *error) {
  X509_STORE *store = SSL_CTX_get_cert_store(context_);
  X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
  if (lookup == nullptr || X509_load_crl_file(lookup, path.c_str(), X509_FILETYPE_PEM) < 1)
    return fail(error, "cannot load the list of revoked certificates", path);
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
  return true;
}

// Reads lines of USER:KEY, the key in hexadecimal digits, as psktool writes them.
bool TlsContext::load_keys(const std::string &path, std::string *error) {
  std::ifstream file(path);
  if (!file) {
    *error = "cannot read the pre-shared keys " + path + ": " + base::error_text(errno);
    return false;
  }
  std::string line;
  for (unsigned number = 1; std::getline(file, line); number++) {
    if (line.empty() || line[0] == '#')
      continue;
    const size_t colon = line.find(':');
    const std::string user = line.substr(0, colon);
    std::vector<uint8_t> key;
    if (colon != std::string::npos)
      key = parse_key(line.substr(colon + 1));
    explicit_bzero(line.data(), line.size());
    if (user.empty() || key.empty()) { // the line itself is a secret
      *error = "line " + std::to_string(number) + " of the pre-shared keys " + path +
               " is not USER:KEY, with up to " + std::to_string(MAX_KEY_BYTES) +
               " bytes of key in hexadecimal digits";
      return false;
    }
    keys_[user] = std::move(key);
  }
  if (keys_.empty()) {
    *error = "there are no pre-shared keys in " + path;
    return false;
  }
  SSL_CTX_set_psk_server_callback(context_, find_key);
  SSL_CTX_set_psk_find_session_callback(context_, find_session);
  SSL_CTX_set_cipher_list(context_, PRE_SHARED_CIPHERS);
  return true;
}

const std::vector<uint8_t> *TlsContext::key_of(const std::string &user) const {
  auto found = keys_.find(user);
  return found == keys_.end() ? nullptr : &found->second;
}

} // namespace asyncnbd::transport
