// Serves images of a Ceph cluster: the callbacks of the rbd plugin, with the ASYNC thread model.

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "rbd-errors.hpp"
#include "rbd-instance.hpp"
#include "rbd-library.hpp"
#include "rbd-open-images.hpp"
#include "rbd-parameters.hpp"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

namespace {

struct Handle {
  rbd::Use image;
  bool can_write;
};

rbd::Instance *&this_instance() {
  static rbd::Instance *only; // under a server without instances
  return asyncnbd_instance != nullptr ? *static_cast<rbd::Instance **>(asyncnbd_instance()) : only;
}

/// Runs a callback that may throw std::bad_alloc, which C code cannot catch.
template <typename Result, typename Work> Result guarded(Result failed, Work work) noexcept {
  try {
    return work();
  } catch (const std::exception &error) {
    nbdkit_error("rbd: %s", error.what());
    nbdkit_set_error(ENOMEM);
    return failed;
  }
}

void report(const rbd::Refusal &refusal) {
  nbdkit_error("%s", refusal.words.c_str());
  nbdkit_set_error(refusal.error);
}

// ---- parameters ---------------------------------------------------------------------------------

void rbd_load() {
  this_instance() = new (std::nothrow) rbd::Instance;
  if (this_instance() == nullptr)
    abort(); // .load cannot report a failure
}

int rbd_config(const char *key, const char *value) {
  return guarded(-1, [&] { return rbd::set_parameter(this_instance()->settings(), key, value); });
}

int rbd_config_complete() {
  return guarded(-1, [] {
    rbd::Refusal refusal;
    if (rbd::complete(this_instance()->settings()) == -1)
      return -1;
    const rbd::Library *const library = rbd::library();
    if (library == nullptr)
      return -1;
    if (this_instance()->configure(*library, refusal))
      return 0;
    report(refusal);
    return -1;
  });
}

// ---- start and end ------------------------------------------------------------------------------

int rbd_get_ready() {
  return guarded(-1, [] {
    rbd::Refusal refusal;
    if (this_instance()->start(refusal))
      return 0;
    report(refusal);
    return -1;
  });
}

void rbd_drained() {
  guarded(0, [] {
    this_instance()->drain();
    return 0;
  });
}

void rbd_unload() {
  std::unique_ptr<rbd::Instance> instance(std::exchange(this_instance(), nullptr));
  guarded(0, [&] {
    rbd::Instance::end(std::move(instance));
    return 0;
  });
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

int rbd_list_exports(int, int, nbdkit_exports *exports) {
  return guarded(-1, [&] {
    rbd::Instance &instance = *this_instance();
    if (!instance.settings().image.empty())
      return nbdkit_add_export(exports, "", nullptr);
    rbd::Refusal refusal;
    const auto names = instance.list_images(refusal);
    if (!names) {
      report(refusal);
      return -1;
    }
    for (const std::string &name : *names)
      if (nbdkit_add_export(exports, name.c_str(), nullptr) == -1)
        return -1;
    return 0;
  });
}

/// The image of the parameters, or else the one that the client names. False: it names none.
bool named_image(const rbd::Settings &settings, std::string &name, std::string &snapshot) {
  if (!settings.image.empty()) {
    name = settings.image;
    snapshot = settings.snapshot;
    return true;
  }
  name = nbdkit_export_name();
  if (name.empty()) {
    nbdkit_error("all images of the pool %s are served: a client must name one as its export",
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
    rbd::Instance &instance = *this_instance();
    std::string name, snapshot;
    if (!named_image(instance.settings(), name, snapshot))
      return nullptr;
    const bool can_write = readonly == 0 && snapshot.empty();
    rbd::Refusal refusal;
    std::optional<rbd::Use> image = instance.open(name, snapshot, !can_write, refusal);
    if (image)
      return new Handle{std::move(*image), can_write};
    report(refusal);
    return nullptr;
  });
}

Handle &of(void *handle) {
  return *static_cast<Handle *>(handle);
}

void rbd_close(void *handle) {
  delete &of(handle);
}

int64_t rbd_get_size(void *handle) {
  return guarded<int64_t>(-1, [&] {
    rbd::Refusal refusal;
    const int64_t bytes = of(handle).image.size_bytes(refusal);
    if (bytes < 0)
      report(refusal);
    return bytes;
  });
}

int rbd_can_write(void *handle) {
  return of(handle).can_write;
}

int rbd_can_fua(void *) {
  return NBDKIT_FUA_NATIVE;
}

// All clients share one librbd handle.
int rbd_can_multi_conn(void *) {
  return 1;
}

// With LUKS, librbd would write encrypted zeroes, even where nothing was stored: file systems that
// trim unused space would fill the pool.
int rbd_can_trim(void *) {
  return this_instance()->settings().passphrase ? 0 : 1;
}

// Objects are removed or truncated. If they must stay allocated, fast zeroing fails at once.
int rbd_can_fast_zero(void *handle) {
  return rbd_can_trim(handle);
}

// With LUKS, librbd reports the objects of the image including its header, which precedes the
// decrypted disk; and unwritten parts of an object do not read as zeroes.
int rbd_can_extents(void *) {
  return this_instance()->settings().passphrase ? 0 : 1;
}

int rbd_block_size(void *, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum) {
  *minimum = 1;
  *preferred = 4096; // the allocation unit of OSDs
  *maximum = UINT32_MAX;
  return 0;
}

// ---- requests -----------------------------------------------------------------------------------

int rbd_pread(void *conn, uint64_t reqid, bool, void *handle, void *buf, uint32_t count,
              uint64_t offset) {
  return of(handle).image->requests().read(conn, reqid, static_cast<char *>(buf), count, offset);
}

int rbd_pwrite(void *conn, uint64_t reqid, bool flush, void *handle, const void *buf,
               uint32_t count, uint64_t offset) {
  return of(handle).image->requests().write(conn, reqid, flush, static_cast<const char *>(buf),
                                            count, offset);
}

int rbd_flush(void *conn, uint64_t reqid, void *handle) {
  return of(handle).image->requests().flush(conn, reqid);
}

int rbd_trim(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count,
             uint64_t offset) {
  return of(handle).image->requests().discard(conn, reqid, flush, count, offset);
}

int rbd_zero(void *conn, uint64_t reqid, bool flush, void *handle, uint32_t count, uint64_t offset,
             uint32_t flags) {
  const bool may_trim = (flags & NBDKIT_FLAG_MAY_TRIM) != 0;
  if (!may_trim && (flags & NBDKIT_FLAG_FAST_ZERO) != 0) {
    nbdkit_set_error(ENOTSUP);
    return -1;
  }
  return of(handle).image->requests().write_zeroes(conn, reqid, flush, count, offset, may_trim);
}

int rbd_extents(void *conn, uint64_t reqid, void *handle, uint32_t count, uint64_t offset, uint32_t,
                nbdkit_extents *extents) {
  return of(handle).image->questions().ask({{conn, reqid, offset, count, false}, extents});
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
  plugin.config_help = rbd::PARAMETERS_HELP;
  plugin.magic_config_key = "rbd";
  plugin.get_ready = rbd_get_ready;
  plugin.drained = rbd_drained;
  plugin.dump_plugin = rbd_dump_plugin;
  plugin.list_exports = rbd_list_exports;
  plugin.open = rbd_open;
  plugin.close = rbd_close;
  plugin.get_size = rbd_get_size;
  plugin.can_write = rbd_can_write;
  plugin.can_trim = rbd_can_trim;
  plugin.can_fua = rbd_can_fua;
  plugin.can_multi_conn = rbd_can_multi_conn;
  plugin.can_fast_zero = rbd_can_fast_zero;
  plugin.can_extents = rbd_can_extents;
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
