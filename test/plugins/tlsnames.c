/* A disk whose description says what TLS knows of the client. */

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int handle;

static void *names_open(int readonly) {
  (void)readonly;
  return &handle;
}

static int64_t names_get_size(void *h) {
  (void)h;
  return 512;
}

static int names_pread(void *h, void *buf, uint32_t count, uint64_t offset, uint32_t flags) {
  (void)h, (void)offset, (void)flags;
  memset(buf, 0, count);
  return 0;
}

static const char *names_description(void *h) {
  static char text[1024];
  char *name = nbdkit_peer_tls_dn();
  char *issuer = nbdkit_peer_tls_issuer_dn();
  (void)h;
  snprintf(text, sizeof text, "tls=%d name=%s issuer=%s", nbdkit_is_tls(), name, issuer);
  free(name);
  free(issuer);
  return text;
}

static struct nbdkit_plugin plugin = {
    .name = "tlsnames",
    .open = names_open,
    .get_size = names_get_size,
    .pread = names_pread,
    .export_description = names_description,
};

NBDKIT_REGISTER_PLUGIN(plugin)
