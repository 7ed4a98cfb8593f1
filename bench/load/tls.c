/* See tls.h. */
#include "tls.h"

#include <endian.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define TLS_BUFFER_BYTES (512 << 10)
#define TLS_HEADER_BYTES 5
#define TLS_OVERHEAD_BYTES 17 /* the type of what is in a record, and its tag */
#define TLS_APPLICATION_DATA 23
#define TLS_SECRET_BYTES 48

struct tls {
  SSL *ssl;
  int fd;
  EVP_CIPHER_CTX *counter;
  uint8_t iv[12];
  uint64_t records; /* that came before */
  uint8_t *buffer;  /* received: [begin, end) */
  size_t begin;
  size_t end;
  size_t plain_bytes; /* of the record at begin, without its type; 0: there is none */
  size_t taken_bytes; /* of them */
};

static uint8_t tls_server_secret[TLS_SECRET_BYTES];

static void tls_on_key(const SSL *ssl, const char *line) {
  (void)ssl;
  const char *label = "SERVER_TRAFFIC_SECRET_0 ";
  if (strncmp(line, label, strlen(label)) != 0)
    return;
  const char *hex = strrchr(line, ' ') + 1;
  for (size_t i = 0; i < TLS_SECRET_BYTES && hex[2 * i] != '\0'; i++) {
    const char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
    tls_server_secret[i] = (uint8_t)strtoul(digits, NULL, 16);
  }
}

/* RFC 8446, 7.3: "Traffic Key Calculation". */
static bool tls_derive(const char *label, size_t secret_bytes, uint8_t *key, size_t key_bytes) {
  EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", NULL);
  EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  const char *digest = secret_bytes == 32 ? "SHA256" : "SHA384";
  OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
      OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, tls_server_secret, secret_bytes),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, (char *)"tls13 ", 6),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (char *)label, strlen(label)),
      OSSL_PARAM_construct_end()};
  const bool derived = EVP_KDF_derive(context, key, key_bytes, parameters) == 1;
  EVP_KDF_CTX_free(context);
  EVP_KDF_free(kdf);
  return derived;
}

struct tls *tls_connect(int fd) {
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  /* In the order in which GnuTLS and OpenSSL have them; servers may choose. */
  SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256");
  SSL_CTX_set_keylog_callback(context, tls_on_key);
  struct tls *tls = calloc(1, sizeof *tls);
  tls->fd = fd;
  tls->ssl = SSL_new(context);
  SSL_CTX_free(context);
  SSL_set_fd(tls->ssl, fd);
  uint8_t key[32];
  if (SSL_connect(tls->ssl) != 1)
    return NULL;
  const bool is_256 = SSL_CIPHER_get_bits(SSL_get_current_cipher(tls->ssl), NULL) == 256;
  const size_t secret_bytes = is_256 ? TLS_SECRET_BYTES : 32;
  if (!tls_derive("key", secret_bytes, key, is_256 ? 32 : 16) ||
      !tls_derive("iv", secret_bytes, tls->iv, sizeof tls->iv))
    return NULL;
  tls->counter = EVP_CIPHER_CTX_new();
  tls->buffer = malloc(TLS_BUFFER_BYTES);
  return EVP_EncryptInit_ex(tls->counter, is_256 ? EVP_aes_256_ctr() : EVP_aes_128_ctr(), NULL, key,
                            NULL) == 1
             ? tls
             : NULL;
}

void tls_free(struct tls *tls) {
  if (tls == NULL)
    return;
  SSL_free(tls->ssl);
  EVP_CIPHER_CTX_free(tls->counter);
  free(tls->buffer);
  free(tls);
}

bool tls_send(struct tls *tls, const void *data, size_t count) {
  return SSL_write(tls->ssl, data, (int)count) == (int)count;
}

/* Bytes of the record at begin. GCM encrypts by counting blocks from 2 on, behind a nonce. */
static void tls_decrypt(struct tls *tls, size_t position, uint8_t *out, size_t count) {
  uint8_t block[16];
  uint8_t skipped[16];
  memcpy(block, tls->iv, sizeof tls->iv);
  for (int i = 0; i < 8; i++)
    block[4 + i] ^= (uint8_t)(tls->records >> (56 - 8 * i));
  const uint32_t counter = htobe32((uint32_t)(position / 16 + 2));
  memcpy(block + 12, &counter, sizeof counter);
  const uint8_t *from = tls->buffer + tls->begin + TLS_HEADER_BYTES + position / 16 * 16;
  int written;
  EVP_EncryptInit_ex(tls->counter, NULL, NULL, NULL, block);
  EVP_EncryptUpdate(tls->counter, skipped, &written, from, (int)(position % 16));
  EVP_EncryptUpdate(tls->counter, out, &written, from + position % 16, (int)count);
}

static size_t tls_record_bytes(const struct tls *tls) {
  const uint8_t *header = tls->buffer + tls->begin;
  if (tls->end - tls->begin < TLS_HEADER_BYTES)
    return SIZE_MAX;
  return TLS_HEADER_BYTES + (size_t)(header[3] << 8 | header[4]);
}

static void tls_drop_record(struct tls *tls) {
  tls->begin += tls_record_bytes(tls);
  tls->records++;
  tls->plain_bytes = tls->taken_bytes = 0;
}

bool tls_has_more(struct tls *tls) {
  while (tls->plain_bytes == 0) {
    if (tls_record_bytes(tls) > tls->end - tls->begin)
      return false;
    const size_t plain_bytes = tls_record_bytes(tls) - TLS_HEADER_BYTES - TLS_OVERHEAD_BYTES;
    uint8_t type;
    tls_decrypt(tls, plain_bytes, &type, 1);
    if (type == TLS_APPLICATION_DATA && plain_bytes > 0)
      tls->plain_bytes = plain_bytes;
    else
      tls_drop_record(tls); /* a ticket */
  }
  return true;
}

bool tls_wait(struct tls *tls) {
  while (!tls_has_more(tls)) {
    memmove(tls->buffer, tls->buffer + tls->begin, tls->end - tls->begin);
    tls->end -= tls->begin;
    tls->begin = 0;
    const ssize_t received = recv(tls->fd, tls->buffer + tls->end, TLS_BUFFER_BYTES - tls->end, 0);
    if (received <= 0)
      return false;
    tls->end += (size_t)received;
  }
  return true;
}

size_t tls_take(struct tls *tls, void *out, size_t count) {
  const size_t left = tls->plain_bytes - tls->taken_bytes;
  const size_t taken = count < left ? count : left;
  if (out != NULL && taken > 0)
    tls_decrypt(tls, tls->taken_bytes, out, taken);
  tls->taken_bytes += taken;
  if (tls->plain_bytes > 0 && tls->taken_bytes == tls->plain_bytes)
    tls_drop_record(tls);
  return taken;
}
