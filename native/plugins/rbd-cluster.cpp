// See rbd-cluster.hpp.
#include "rbd-cluster.hpp"

#include <cerrno>
#include <cstring>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace rbd {

Cluster::~Cluster() {
  if (pool_ != nullptr)
    library_->rados_ioctx_destroy(pool_);
  if (cluster_ != nullptr)
    library_->rados_shutdown(cluster_);
}

std::string Cluster::full_name(const std::string &name) const {
  const std::string &space = settings_.name_space;
  return settings_.pool + "/" + (space.empty() ? "" : space + "/") + name;
}

bool Cluster::set(const char *option, const std::string &value) {
  const int result = library_->rados_conf_set(cluster_, option, value.c_str());
  if (result < 0)
    nbdkit_error("Ceph refuses %s=%s: %s", option, value.c_str(), strerror(-result));
  return result >= 0;
}

bool Cluster::configure() {
  const std::string &conf = settings_.conf;
  const int result =
      library_->rados_conf_read_file(cluster_, conf.empty() ? nullptr : conf.c_str());
  if (result < 0 && !(conf.empty() && result == -ENOENT)) {
    nbdkit_error("cannot read Ceph's configuration %s: %s",
                 conf.empty() ? "(in $CEPH_CONF or /etc/ceph)" : conf.c_str(), strerror(-result));
    return false;
  }
  library_->rados_conf_parse_env(cluster_, nullptr);
  // Ceph's error does not distinguish this from a missing key.
  if (!settings_.keyring.empty() && access(settings_.keyring.c_str(), R_OK) == -1) {
    nbdkit_error("cannot read keyring=%s: %s", settings_.keyring.c_str(), strerror(errno));
    return false;
  }
  const std::string seconds = std::to_string(settings_.connect_timeout_seconds);
  // We report errors ourselves, and nobody reads a background server's standard error.
  return set("log_to_stderr", "false") && set("err_to_stderr", "false") &&
         set("client_mount_timeout", seconds) &&
         (settings_.keyring.empty() || set("keyring", settings_.keyring)) &&
         (!settings_.cache || set("rbd_cache", *settings_.cache ? "true" : "false"));
}

/// Whether librbd copies data, and queues requests, or does without, which is cheaper.
bool Cluster::tune() {
  // A request that is overdue goes on after its data has become the server's again, and none may
  // wait in a call of librbd's for those before it: with a limit of time, librbd copies and queues,
  // whatever Ceph's configuration says. Without a copy, other data could be written.
  if (settings_.timeout_seconds != 0) {
    library_->rados_conf_set(cluster_, "rbd_non_blocking_aio", "true");
    return set("rbd_disable_zero_copy_writes", "true");
  }
  // Versions that do not know these do without.
  library_->rados_conf_set(cluster_, "rbd_disable_zero_copy_writes", "false");
  library_->rados_conf_set(cluster_, "rbd_non_blocking_aio", "false");
  return true;
}

/// Why there is no connection. Returns false.
bool Cluster::explain(int result) const {
  const char *const id = settings_.id.c_str();
  const std::string &keyring = settings_.keyring;
  switch (-result) {
  case EACCES:
  case EPERM:
    nbdkit_error("the Ceph cluster refuses client.%s: its key%s%s is wrong or missing, or there is "
                 "no such user; check id= and keyring=",
                 id, keyring.empty() ? "" : " in ", keyring.c_str());
    break;
  case ENOENT:
    nbdkit_error("there is no key for client.%s: give keyring=FILE, or put one where Ceph looks "
                 "for it; conf= and cluster= name the configuration",
                 id);
    break;
  case ETIMEDOUT:
    nbdkit_error("no monitor of the Ceph cluster answers within %u s: check mon_host in the "
                 "configuration, and the network; connect-timeout= changes the time",
                 settings_.connect_timeout_seconds);
    break;
  case EOPNOTSUPP:
    nbdkit_error("the Ceph cluster and client.%s have no way of authentication in common: check "
                 "keyring= and auth_client_required",
                 id);
    break;
  default:
    nbdkit_error("cannot connect to the Ceph cluster as client.%s: %s", id, strerror(-result));
  }
  return false;
}

bool Cluster::connect(const Library &library) {
  library_ = &library;
  const std::string name = "client." + settings_.id;
  int result = library.rados_create2(&cluster_, settings_.cluster.c_str(), name.c_str(), 0);
  if (result < 0) {
    nbdkit_error("cannot make a client of Ceph: %s", strerror(-result));
    return false;
  }
  if (!configure() || !tune())
    return false;
  result = library.rados_connect(cluster_);
  if (result < 0)
    return explain(result);
  result = library.rados_ioctx_create(cluster_, settings_.pool.c_str(), &pool_);
  if (result < 0) {
    pool_ = nullptr;
    if (result == -ENOENT)
      nbdkit_error("the Ceph cluster has no pool \"%s\"", settings_.pool.c_str());
    else
      nbdkit_error("cannot use the pool \"%s\": %s", settings_.pool.c_str(), strerror(-result));
    return false;
  }
  if (!settings_.name_space.empty())
    library.rados_ioctx_set_namespace(pool_, settings_.name_space.c_str());
  // A write to a full pool fails; without this it waits until there is room.
  if (library.rados_set_pool_full_try != nullptr)
    library.rados_set_pool_full_try(pool_);
  return true;
}

} // namespace rbd
