// See rbd-cluster.hpp.
#include "rbd-cluster.hpp"

#include <cerrno>
#include <cstring>
#include <unistd.h>

namespace rbd {

namespace {

// Deriving keys from a passphrase takes seconds of processor time, with create= several times. It
// does not depend on the cluster, so this time is allowed in addition to timeout=.
constexpr unsigned MAX_KEY_SECONDS = 60;

} // namespace

// ---- limits -------------------------------------------------------------------------------------

Refusal Limit::too_late(const std::string &cannot) const {
  const std::string more =
      key_seconds == 0 ? "" : " and the " + std::to_string(key_seconds) + " s for LUKS";
  return {cannot + ": the cluster has not answered within " + parameter + "=" +
              std::to_string(seconds) + more,
          EIO};
}

Limit Settings::limit_to_open() const {
  return {"timeout", timeout_seconds, passphrase ? MAX_KEY_SECONDS : 0};
}

Limit Settings::limit_at_start() const {
  if (timeout_seconds != 0)
    return limit_to_open();
  return {"connect-timeout", connect_timeout_seconds, passphrase ? MAX_KEY_SECONDS : 0};
}

// ---- the connection -----------------------------------------------------------------------------

Cluster::~Cluster() {
  if (pool_ != nullptr)
    library_.rados_ioctx_destroy(pool_);
  if (cluster_ != nullptr)
    library_.rados_shutdown(cluster_);
}

std::string Cluster::full_name(const std::string &name) const {
  const std::string &space = settings_->name_space;
  return settings_->pool + "/" + (space.empty() ? "" : space + "/") + name;
}

bool Cluster::set(const char *option, const std::string &value, Refusal &refusal) {
  const int result = library_.rados_conf_set(cluster_, option, value.c_str());
  if (result < 0)
    refusal = {std::string("Ceph refuses ") + option + "=" + value + ": " + strerror(-result),
               -result};
  return result >= 0;
}

bool Cluster::configure(Refusal &refusal) {
  const std::string &conf = settings_->conf;
  const std::string &keyring = settings_->keyring;
  const int result = library_.rados_conf_read_file(cluster_, conf.empty() ? nullptr : conf.c_str());
  if (result < 0 && !(conf.empty() && result == -ENOENT)) {
    refusal = {"cannot read Ceph's configuration " +
                   (conf.empty() ? "(in $CEPH_CONF or /etc/ceph)" : conf) + ": " +
                   strerror(-result),
               -result};
    return false;
  }
  library_.rados_conf_parse_env(cluster_, nullptr);
  // Ceph's error does not distinguish this from a missing key.
  if (!keyring.empty() && access(keyring.c_str(), R_OK) == -1) {
    const int error = errno;
    refusal = {"cannot read keyring=" + keyring + ": " + strerror(error), error};
    return false;
  }
  const std::string seconds = std::to_string(settings_->connect_timeout_seconds);
  // We report errors ourselves, and nobody reads a background server's standard error.
  return set("log_to_stderr", "false", refusal) && set("err_to_stderr", "false", refusal) &&
         set("client_mount_timeout", seconds, refusal) &&
         (keyring.empty() || set("keyring", keyring, refusal)) &&
         (!settings_->cache || set("rbd_cache", *settings_->cache ? "true" : "false", refusal));
}

/// Chooses whether librbd copies data and queues requests; doing neither is cheaper.
bool Cluster::tune(Refusal &refusal) {
  // With timeout=, librbd must do both, whatever Ceph's configuration says. It may carry out an
  // overdue request after the server has reused its buffer: without a copy, it would write other
  // data. And without a queue, a request could block in librbd until earlier ones are done.
  if (settings_->timeout_seconds != 0) {
    library_.rados_conf_set(cluster_, "rbd_non_blocking_aio", "true");
    return set("rbd_disable_zero_copy_writes", "true", refusal);
  }
  // Older versions do not have these options, so errors are ignored.
  library_.rados_conf_set(cluster_, "rbd_disable_zero_copy_writes", "false");
  library_.rados_conf_set(cluster_, "rbd_non_blocking_aio", "false");
  return true;
}

Refusal no_monitor(const Settings &settings) {
  return {"no monitor of the Ceph cluster answers within " +
              std::to_string(settings.connect_timeout_seconds) +
              " s: check mon_host in the configuration, and the network; connect-timeout= changes "
              "the time",
          ETIMEDOUT};
}

/// Why connecting has failed.
Refusal Cluster::explain(int result) const {
  const std::string user = "client." + settings_->id;
  const std::string &keyring = settings_->keyring;
  switch (-result) {
  case EACCES:
  case EPERM:
    return {"the Ceph cluster refuses " + user + ": its key" +
                (keyring.empty() ? "" : " in " + keyring) +
                " is wrong or missing, or there is no such user; check id= and keyring=",
            -result};
  case ENOENT:
    return {"there is no key for " + user +
                ": give keyring=FILE, or put one where Ceph looks for it; conf= and cluster= name "
                "the configuration",
            -result};
  case ETIMEDOUT:
    return no_monitor(*settings_);
  case EOPNOTSUPP:
    return {"the Ceph cluster and " + user +
                " have no authentication method in common: check keyring=, and "
                "auth_client_required in Ceph's configuration",
            -result};
  default:
    return {"cannot connect to the Ceph cluster as " + user + ": " + strerror(-result), -result};
  }
}

bool Cluster::open_pool(Refusal &refusal) {
  const std::string &pool = settings_->pool;
  const int result = library_.rados_ioctx_create(cluster_, pool.c_str(), &pool_);
  if (result < 0) {
    pool_ = nullptr;
    refusal = {result == -ENOENT ? "the Ceph cluster has no pool \"" + pool + "\": check its name"
                                 : "cannot use the pool \"" + pool + "\": " + strerror(-result),
               -result};
    return false;
  }
  if (!settings_->name_space.empty())
    library_.rados_ioctx_set_namespace(pool_, settings_->name_space.c_str());
  // Makes a write to a full pool fail; otherwise it would wait until there is room.
  if (library_.rados_set_pool_full_try != nullptr)
    library_.rados_set_pool_full_try(pool_);
  return true;
}

bool Cluster::create(Refusal &refusal) {
  const std::string name = "client." + settings_->id;
  const int result = library_.rados_create2(&cluster_, settings_->cluster.c_str(), name.c_str(), 0);
  if (result < 0) {
    refusal = {std::string("cannot create a Ceph client: ") + strerror(-result), -result};
    return false;
  }
  return configure(refusal) && tune(refusal);
}

bool Cluster::connect(Refusal &refusal) {
  const int result = library_.rados_connect(cluster_);
  if (result < 0)
    refusal = explain(result);
  return result >= 0 && open_pool(refusal);
}

std::shared_ptr<Cluster> Cluster::configured(const Library &library,
                                             std::shared_ptr<const Settings> settings,
                                             Refusal &refusal) {
  std::shared_ptr<Cluster> cluster(new Cluster(library, std::move(settings)));
  return cluster->create(refusal) ? std::move(cluster) : nullptr;
}

} // namespace rbd
