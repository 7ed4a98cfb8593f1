// See rbd-parameters.hpp.
#include "rbd-parameters.hpp"

#include <climits>
#include <cstdlib>
#include <cstring>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace rbd {

namespace {

/// [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]
int set_place(Settings &settings, const std::string &place) {
  std::string rest = place;
  const size_t last = rest.rfind('/');
  const size_t at = rest.find('@', last == std::string::npos ? 0 : last);
  if (at != std::string::npos) {
    settings.snapshot = rest.substr(at + 1);
    rest.resize(at);
  }
  const size_t first = rest.find('/');
  const size_t second = first == std::string::npos ? first : rest.find('/', first + 1);
  if (second != std::string::npos) {
    settings.name_space = rest.substr(first + 1, second - first - 1);
    settings.image = rest.substr(second + 1);
  } else {
    settings.image = first == std::string::npos ? rest : rest.substr(first + 1);
  }
  if (first != std::string::npos)
    settings.pool = rest.substr(0, first);
  const bool has_snapshot = at == std::string::npos || !settings.snapshot.empty();
  if (!settings.image.empty() && settings.image.find('/') == std::string::npos &&
      (first == std::string::npos || !settings.pool.empty()) && has_snapshot)
    return 0;
  nbdkit_error("rbd=%s: use [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]", place.c_str());
  return -1;
}

int set_bool(bool &setting, const char *value) {
  const int answer = nbdkit_parse_bool(value);
  setting = answer == 1;
  return answer == -1 ? -1 : 0;
}

/// Ceph counts in whole seconds. Rounds up, so that less than one is not 0, which means no limit.
int set_time(unsigned &setting_seconds, const char *name, const char *value) {
  unsigned seconds = 0, nanoseconds = 0;
  if (nbdkit_parse_delay(name, value, &seconds, &nanoseconds) == -1)
    return -1;
  if (nanoseconds > 0 && seconds < UINT_MAX)
    seconds++;
  setting_seconds = seconds;
  return 0;
}

int set_passphrase(Settings &settings, const char *value) {
  char *passphrase = nullptr;
  if (nbdkit_read_password(value, &passphrase) == -1)
    return -1;
  settings.passphrase = passphrase;
  explicit_bzero(passphrase, strlen(passphrase));
  free(passphrase);
  return 0;
}

int set_path(std::string &setting, const char *value) {
  char *const path = nbdkit_absolute_path(value); // the server changes directory
  if (path == nullptr)
    return -1;
  setting = path;
  free(path);
  return 0;
}

int set_cache(Settings &settings, const char *value) {
  bool is_on = false;
  const int result = set_bool(is_on, value);
  settings.cache = is_on;
  return result;
}

int set_create(Settings &settings, const char *value) {
  const int64_t bytes = nbdkit_parse_size(value);
  if (bytes <= 0) {
    if (bytes == 0)
      nbdkit_error("create=%s: must be greater than 0", value);
    return -1;
  }
  settings.create_bytes = static_cast<uint64_t>(bytes);
  return 0;
}

int set_text(Settings &settings, const std::string &key, const char *value) {
  std::string *const text = key == "pool"        ? &settings.pool
                            : key == "namespace" ? &settings.name_space
                            : key == "image"     ? &settings.image
                            : key == "snapshot"  ? &settings.snapshot
                            : key == "cluster"   ? &settings.cluster
                            : key == "id"        ? &settings.id
                                                 : nullptr;
  if (text == nullptr) {
    nbdkit_error("unknown parameter \"%s\"", key.c_str());
    return -1;
  }
  *text = value;
  return 0;
}

} // namespace

int set_parameter(Settings &settings, const std::string &key, const char *value) {
  if (key == "rbd")
    return set_place(settings, value);
  if (key == "conf")
    return set_path(settings.conf, value);
  if (key == "keyring")
    return set_path(settings.keyring, value);
  if (key == "passphrase")
    return set_passphrase(settings, value);
  if (key == "exclusive")
    return set_bool(settings.exclusive, value);
  if (key == "timeout")
    return set_time(settings.timeout_seconds, "timeout", value);
  if (key == "connect-timeout")
    return set_time(settings.connect_timeout_seconds, "connect-timeout", value);
  if (key == "cache")
    return set_cache(settings, value);
  if (key == "create")
    return set_create(settings, value);
  return set_text(settings, key, value);
}

int complete(Settings &settings) {
  if (settings.image.empty() && settings.pool.empty()) {
    nbdkit_error("the image is missing: give [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT], or pool=POOL "
                 "to serve all images of a pool");
    return -1;
  }
  if (settings.image.empty() &&
      (settings.create_bytes || settings.exclusive || !settings.snapshot.empty())) {
    nbdkit_error("create=, exclusive= and snapshot= need an image: give image=IMAGE");
    return -1;
  }
  if (settings.exclusive && !settings.snapshot.empty()) {
    nbdkit_error("exclusive=true: snapshots are read-only and need no lock");
    return -1;
  }
  if (settings.create_bytes && !settings.snapshot.empty()) {
    nbdkit_error("create= creates images, not snapshots: leave out @SNAPSHOT or snapshot=");
    return -1;
  }
  if (settings.pool.empty())
    settings.pool = "rbd";
  return 0;
}

const char *const PARAMETERS_HELP =
    "[rbd=][POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]\n"
    "                        The image to serve; the pool is rbd by default.\n"
    "pool=<POOL>             The pool; without an image, all its images are served by name.\n"
    "namespace=<NAMESPACE>   The namespace in the pool.\n"
    "image=<IMAGE>           The image in the pool or namespace.\n"
    "snapshot=<SNAPSHOT>     Serve this snapshot of the image, read-only.\n"
    "conf=<FILE>             Ceph's configuration, instead of $CEPH_CONF or /etc/ceph.\n"
    "cluster=<NAME>          The cluster's name, ceph by default.\n"
    "id=<ID>                 Connect as client.ID; the ID is admin by default.\n"
    "keyring=<FILE>          The file with the key of client.ID.\n"
    "cache=<BOOL>            Turn librbd's cache on or off, whatever the configuration says.\n"
    "exclusive=true          Lock the image: no other client can write until the server ends.\n"
    "create=<SIZE>           Create the image if it does not exist.\n"
    "passphrase=<PASSPHRASE> The passphrase of a LUKS image; with create=, of the new one.\n"
    "                        -, -FD and +FILE keep it out of ps.\n"
    "timeout=<TIME>          Fail requests that the cluster has not answered within this time;\n"
    "                        0, the default, waits for ever.\n"
    "connect-timeout=<TIME>  How long to try to connect at the start, 30s by default.";

} // namespace rbd
