// Images of a Ceph cluster as disks: librbd's asynchronous interface behind the ASYNC thread model.

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "rbd-cluster.hpp"
#include "rbd-image.hpp"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

namespace {

/// An image by its name and how it is opened, which all clients that have it open share. librbd
/// passes an exclusive lock between handles of one image as between machines, so that with a handle
/// for each client they would take it from each other with every write.
class Shared {
public:
  /// Waits for an end of earlier use: what librbd caches is written then. False: there is none.
  bool enter(const rbd::Cluster &cluster, const std::string &name, const std::string &snapshot,
             bool is_readonly) {
    std::lock_guard lock(mutex_);
    if (image_ == nullptr)
      image_ = rbd::Image::open(cluster, name, snapshot, is_readonly);
    if (image_ == nullptr)
      return false;
    users_++;
    return true;
  }
  void leave() {
    std::lock_guard lock(mutex_);
    if (--users_ == 0)
      image_.reset();
  }
  /// Between enter() and leave().
  rbd::Image &image() const { return *image_; }

private:
  std::mutex mutex_;
  std::unique_ptr<rbd::Image> image_;
  unsigned users_ = 0;
};

/// The use of a shared image.
class Use {
public:
  explicit Use(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  ~Use() {
    if (shared_ != nullptr)
      shared_->leave();
  }
  Use(Use &&) = default;
  Use &operator=(Use &&) = default;
  rbd::Image *operator->() const { return &shared_->image(); }

private:
  std::shared_ptr<Shared> shared_;
};

/// What one server has of this plugin.
struct Instance {
  rbd::Settings settings;
  std::unique_ptr<rbd::Cluster> cluster;
  std::mutex mutex; // of `images`, for no longer than a look
  std::map<std::string, std::weak_ptr<Shared>> images;
  /// The one image, if it stays locked while nobody has it open.
  std::optional<Use> locked;
};

struct Handle {
  Use image;
  bool can_write;
};

Instance *&this_instance() {
  static Instance *only; // under a server without instances
  return asyncnbd_instance != nullptr ? *static_cast<Instance **>(asyncnbd_instance()) : only;
}

/// Carries out a callback that may run out of memory, which nothing of C can catch.
template <typename Result, typename Work> Result guarded(Result failed, Work work) noexcept {
  try {
    return work();
  } catch (const std::exception &error) {
    nbdkit_error("rbd: %s", error.what());
    nbdkit_set_error(ENOMEM);
    return failed;
  }
}

// ---- parameters ---------------------------------------------------------------------------------

void rbd_load() {
  this_instance() = new (std::nothrow) Instance;
  if (this_instance() == nullptr)
    abort(); // load cannot fail
}

void rbd_unload() {
  delete std::exchange(this_instance(), nullptr);
}

/// [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]
int set_place(rbd::Settings &settings, const std::string &place) {
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

/// Ceph counts in seconds. Less than one is one: none would be no limit.
int set_time(unsigned &setting_seconds, const char *name, const char *value) {
  unsigned seconds = 0, nanoseconds = 0;
  if (nbdkit_parse_delay(name, value, &seconds, &nanoseconds) == -1)
    return -1;
  if (nanoseconds > 0 && seconds < UINT_MAX)
    seconds++;
  setting_seconds = seconds;
  return 0;
}

int set_passphrase(rbd::Settings &settings, const char *value) {
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

int set_parameter(rbd::Settings &settings, const std::string &key, const char *value) {
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
  if (key == "cache") {
    bool is_on = false;
    const int result = set_bool(is_on, value);
    settings.cache = is_on;
    return result;
  }
  if (key == "create") {
    const int64_t bytes = nbdkit_parse_size(value);
    if (bytes <= 0) {
      if (bytes == 0)
        nbdkit_error("create=%s: an image of no bytes is of no use", value);
      return -1;
    }
    settings.create_bytes = static_cast<uint64_t>(bytes);
    return 0;
  }
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

int rbd_config(const char *key, const char *value) {
  return guarded(-1, [&] { return set_parameter(this_instance()->settings, key, value); });
}

int rbd_config_complete() {
  return guarded(-1, [] {
    rbd::Settings &settings = this_instance()->settings;
    if (settings.image.empty() && settings.pool.empty()) {
      nbdkit_error("the image is missing: give [POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT], or pool=POOL "
                   "to serve all images of a pool");
      return -1;
    }
    if (settings.image.empty() &&
        (settings.create_bytes || settings.exclusive || !settings.snapshot.empty())) {
      nbdkit_error("create=, exclusive= and snapshot= need an image");
      return -1;
    }
    if (settings.exclusive && !settings.snapshot.empty()) {
      nbdkit_error("exclusive=true: a snapshot cannot be written");
      return -1;
    }
    if (settings.create_bytes && (settings.passphrase || !settings.snapshot.empty())) {
      nbdkit_error("create= makes an image without LUKS and without snapshots");
      return -1;
    }
    if (settings.pool.empty())
      settings.pool = "rbd";
    return 0;
  });
}

// ---- start and end ------------------------------------------------------------------------------

std::shared_ptr<Shared> shared_image(Instance &instance, const std::string &key) {
  std::lock_guard lock(instance.mutex);
  std::erase_if(instance.images, [](const auto &one) { return one.second.expired(); });
  std::weak_ptr<Shared> &place = instance.images[key];
  std::shared_ptr<Shared> shared = place.lock();
  if (shared == nullptr)
    place = shared = std::make_shared<Shared>();
  return shared;
}

std::optional<Use> open_image(Instance &instance, const std::string &name,
                              const std::string &snapshot, bool is_readonly) {
  auto shared = shared_image(instance, (is_readonly ? "r " : "w ") + name + "@" + snapshot);
  if (!shared->enter(*instance.cluster, name, snapshot, is_readonly))
    return std::nullopt;
  return Use(std::move(shared));
}

/// Without rights on the pool no image can be opened either.
int check_listing(const Instance &instance) {
  const rbd::Settings &settings = instance.settings;
  size_t count = 0;
  const int result =
      instance.cluster->library().rbd_list2(instance.cluster->pool(), nullptr, &count);
  if (result != -EPERM && result != -EACCES)
    return 0;
  nbdkit_error("the Ceph cluster does not allow client.%s to list the images of the pool %s: give "
               "it rights on the pool (such as osd 'profile rbd pool=%s')",
               settings.id.c_str(), settings.pool.c_str(), settings.pool.c_str());
  return -1;
}

/// What cannot work is told before anybody connects.
int rbd_get_ready() {
  return guarded(-1, [] {
    Instance &instance = *this_instance();
    const rbd::Library *const library = rbd::library();
    if (library == nullptr)
      return -1;
    auto cluster = std::make_unique<rbd::Cluster>(instance.settings);
    if (!cluster->connect(*library))
      return -1;
    instance.cluster = std::move(cluster);
    const rbd::Settings &settings = instance.settings;
    if (settings.image.empty())
      return check_listing(instance);
    const bool is_readonly = !settings.create_bytes && !settings.exclusive;
    auto image = open_image(instance, settings.image, settings.snapshot, is_readonly);
    if (!image)
      return -1;
    if (settings.exclusive)
      instance.locked = std::move(image);
    return 0;
  });
}

void rbd_cleanup() {
  Instance &instance = *this_instance();
  instance.locked.reset();
  instance.images.clear();
  instance.cluster.reset();
}

void rbd_dump_plugin() {
  const rbd::Library *const library = rbd::library();
  if (library == nullptr)
    return;
  int major = 0, minor = 0, extra = 0;
  library->rbd_version(&major, &minor, &extra);
  printf("rbd_librbd_version=%d.%d.%d\n", major, minor, extra);
}

// ---- exports ------------------------------------------------------------------------------------

int list_images(const Instance &instance, nbdkit_exports *exports) {
  const rbd::Library &library = instance.cluster->library();
  std::vector<rbd::rbd_image_spec_t> images;
  size_t count = 64;
  int result = 0;
  do { // until all have room: there may be more by then
    images.resize(count);
    result = library.rbd_list2(instance.cluster->pool(), images.data(), &count);
  } while (result == -ERANGE);
  if (result < 0) {
    nbdkit_error("cannot list the images of %s: %s", instance.settings.pool.c_str(),
                 strerror(-result));
    return -1;
  }
  for (size_t i = 0; i < count && result == 0; i++)
    result = nbdkit_add_export(exports, images[i].name, nullptr);
  library.rbd_image_spec_list_cleanup(images.data(), count);
  return result == 0 ? 0 : -1;
}

int rbd_list_exports(int, int, nbdkit_exports *exports) {
  return guarded(-1, [&] {
    const Instance &instance = *this_instance();
    if (instance.settings.image.empty())
      return list_images(instance, exports);
    return nbdkit_add_export(exports, "", nullptr);
  });
}

/// The image that the client has named, where it may.
bool named_image(const rbd::Settings &settings, std::string &name, std::string &snapshot) {
  if (!settings.image.empty()) {
    name = settings.image;
    snapshot = settings.snapshot;
    return true;
  }
  name = nbdkit_export_name();
  if (name.empty()) {
    nbdkit_error("the pool %s has many images: a client must name one as its export",
                 settings.pool.c_str());
    nbdkit_set_error(ENOENT);
    return false;
  }
  const size_t at = name.find('@');
  if (at != std::string::npos) {
    snapshot = name.substr(at + 1);
    name.resize(at);
  }
  return true;
}

void *rbd_open(int readonly) {
  return guarded(static_cast<void *>(nullptr), [&]() -> void * {
    Instance &instance = *this_instance();
    std::string name, snapshot;
    if (!named_image(instance.settings, name, snapshot))
      return nullptr;
    const bool can_write = readonly == 0 && snapshot.empty();
    std::optional<Use> image = open_image(instance, name, snapshot, !can_write);
    return image ? new Handle{std::move(*image), can_write} : nullptr;
  });
}

Handle &of(void *handle) {
  return *static_cast<Handle *>(handle);
}

void rbd_close(void *handle) {
  delete &of(handle);
}

int64_t rbd_get_size(void *handle) {
  return of(handle).image->size_bytes();
}

int rbd_can_write(void *handle) {
  return of(handle).can_write;
}

int rbd_can_fua(void *) {
  return NBDKIT_FUA_NATIVE;
}

// All clients have one handle of librbd's.
int rbd_can_multi_conn(void *) {
  return 1;
}

// Objects are removed or cut; where they must stay allocated, it fails at once.
int rbd_can_fast_zero(void *) {
  return 1;
}

int rbd_block_size(void *, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum) {
  *minimum = 1;
  *preferred = 4096; // what OSDs allocate
  *maximum = UINT32_MAX;
  return 0;
}

// ---- requests -----------------------------------------------------------------------------------

int rbd_pread(void *conn, uint64_t reqid, bool, void *handle, void *buf, uint32_t count,
              uint64_t offset) {
  return of(handle).image->read(conn, reqid, static_cast<char *>(buf), count, offset);
}

int rbd_pwrite(void *conn, uint64_t reqid, bool flush, void *handle, const void *buf,
               uint32_t count, uint64_t offset) {
  return of(handle).image->write(conn, reqid, flush, static_cast<const char *>(buf), count, offset);
}

int rbd_flush(void *conn, uint64_t reqid, void *handle) {
  return of(handle).image->flush(conn, reqid);
}

int rbd_trim(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
             uint64_t offset) {
  return of(handle).image->discard(conn, reqid, flush, count, offset);
}

int rbd_zero(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count, uint64_t offset,
             uint32_t flags) {
  const bool may_trim = (flags & NBDKIT_FLAG_MAY_TRIM) != 0;
  if (!may_trim && (flags & NBDKIT_FLAG_FAST_ZERO) != 0) {
    nbdkit_set_error(ENOTSUP);
    return -1;
  }
  return of(handle).image->write_zeroes(conn, reqid, flush, count, offset, may_trim);
}

int rbd_extents(void *conn, uint64_t reqid, void *handle, uint32_t count, uint64_t offset, uint32_t,
                nbdkit_extents *extents) {
  return of(handle).image->block_status({conn, reqid, offset, count, extents});
}

nbdkit_plugin make_plugin() {
  nbdkit_plugin plugin{};
  plugin.name = "rbd";
  plugin.version = "1.0.0";
  plugin.longname = "asyncnbd rbd plugin";
  plugin.description = "Images of a Ceph cluster as disks, by librbd.";
  plugin.load = rbd_load;
  plugin.unload = rbd_unload;
  plugin.config = rbd_config;
  plugin.config_complete = rbd_config_complete;
  plugin.config_help =
      "[rbd=][POOL/[NAMESPACE/]]IMAGE[@SNAPSHOT]\n"
      "                        The image to serve; the pool is rbd by default.\n"
      "pool=<POOL>             Without an image: serve all of the pool by their names.\n"
      "namespace=<NAMESPACE>   Of the pool.\n"
      "image=<IMAGE>           Of the pool or namespace.\n"
      "snapshot=<SNAPSHOT>     Of the image; it is read-only.\n"
      "conf=<FILE>             Ceph's configuration, instead of $CEPH_CONF or /etc/ceph.\n"
      "cluster=<NAME>          Its name there, ceph by default.\n"
      "id=<ID>                 Who connects: client.ID, admin by default.\n"
      "keyring=<FILE>          With its key.\n"
      "cache=<BOOL>            Have librbd cache, instead of what the configuration says.\n"
      "exclusive=true          Lock the image: no other client can write until the server ends.\n"
      "create=<SIZE>           Create the image if there is none.\n"
      "passphrase=<PASSPHRASE> The image has LUKS: -, -FD and +FILE keep it out of ps.\n"
      "timeout=<TIME>          Fail requests that the cluster has not answered; 0, the default,\n"
      "                        waits for it.\n"
      "connect-timeout=<TIME>  How long to try at start, 30s by default.";
  plugin.magic_config_key = "rbd";
  plugin.get_ready = rbd_get_ready;
  plugin.cleanup = rbd_cleanup;
  plugin.dump_plugin = rbd_dump_plugin;
  plugin.list_exports = rbd_list_exports;
  plugin.open = rbd_open;
  plugin.close = rbd_close;
  plugin.get_size = rbd_get_size;
  plugin.can_write = rbd_can_write;
  plugin.can_fua = rbd_can_fua;
  plugin.can_multi_conn = rbd_can_multi_conn;
  plugin.can_fast_zero = rbd_can_fast_zero;
  plugin.block_size = rbd_block_size;
  plugin.async_pread = rbd_pread;
  plugin.async_pwrite = rbd_pwrite;
  plugin.async_flush = rbd_flush;
  plugin.async_trim = rbd_trim;
  plugin.async_zero = rbd_zero;
  plugin.async_extents = rbd_extents;
  plugin.instance_bytes = sizeof(void *);
  return plugin;
}

nbdkit_plugin plugin = make_plugin();

} // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
