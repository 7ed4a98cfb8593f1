// See rbd-luks.hpp.
#include "rbd-luks.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "rbd-errors.hpp"
#include "rbd-listing.hpp"
#include "warning.hpp"

namespace rbd {

namespace {

// Enough with usual object sizes. Larger objects may need more; then the image grows afterwards.
constexpr uint64_t MAX_HEADER_BYTES = 16 << 20;

constexpr const char *NO_LUKS =
    "passphrase=: this librbd does not support LUKS; use version 16 (Pacific) or newer";

/// An image that is open while it is created.
class OpenImage {
public:
  OpenImage(const Cluster &cluster, const std::string &name) : library_(cluster.library()) {
    result_ = library_.rbd_open(cluster.pool(), name.c_str(), &image_, nullptr);
  }
  ~OpenImage() {
    if (result_ >= 0)
      library_.rbd_close(image_);
  }
  OpenImage(const OpenImage &) = delete;
  OpenImage &operator=(const OpenImage &) = delete;

  int result() const { return result_; }
  rbd_image_t get() const { return image_; }

private:
  const Library &library_;
  rbd_image_t image_ = nullptr;
  int result_;
};

luks_options_t options_of(const std::string &passphrase) {
  return {RBD_ENCRYPTION_ALGORITHM_AES256, passphrase.data(), passphrase.size()};
}

int load_luks(const Library &library, rbd_image_t image, const std::string &passphrase) {
  luks_options_t options = options_of(passphrase);
  int result = -EINVAL;
  for (int format : {RBD_ENCRYPTION_FORMAT_LUKS2, RBD_ENCRYPTION_FORMAT_LUKS1}) {
    result = library.rbd_encryption_load(image, format, &options, sizeof options);
    if (result != -EINVAL)
      break;
  }
  return result;
}

/// Writes the LUKS header of the new image. A negative errno on failure.
int format_luks(const Cluster &cluster, const std::string &name) {
  const Library &library = cluster.library();
  const OpenImage image(cluster, name);
  if (image.result() < 0)
    return image.result();
  luks_options_t options = options_of(*cluster.settings().passphrase);
  return library.rbd_encryption_format(image.get(), RBD_ENCRYPTION_FORMAT_LUKS2, &options,
                                       sizeof options);
}

/// The size of the image's LUKS header. A negative errno on failure.
int64_t header_bytes(const Cluster &cluster, const std::string &name) {
  const Library &library = cluster.library();
  const OpenImage image(cluster, name);
  if (image.result() < 0)
    return image.result();
  uint64_t image_bytes = 0, disk_bytes = 0;
  int result = library.rbd_get_size(image.get(), &image_bytes);
  if (result >= 0)
    result = load_luks(library, image.get(), *cluster.settings().passphrase);
  if (result >= 0)
    result = library.rbd_get_size(image.get(), &disk_bytes);
  return result < 0 ? result : static_cast<int64_t>(image_bytes - disk_bytes);
}

/// Resizes the image so that the disk in it, without the header, has the size of create=.
int make_room_for_header(const Cluster &cluster, const std::string &name) {
  const int64_t header = header_bytes(cluster, name);
  if (header < 0)
    return static_cast<int>(header);
  const OpenImage image(cluster, name);
  if (image.result() < 0)
    return image.result();
  return cluster.library().rbd_resize(image.get(), *cluster.settings().create_bytes +
                                                       static_cast<uint64_t>(header));
}

/// The beginning of an unfinished image's name; random digits follow.
std::string unfinished(const std::string &name) {
  return name + ".new-";
}

bool is_unfinished(const std::string &image, const std::string &name) {
  const std::string begin = unfinished(name);
  return image.size() == begin.size() + 8 && image.compare(0, begin.size(), begin) == 0 &&
         image.find_first_not_of("0123456789abcdef", begin.size()) == std::string::npos;
}

std::string unfinished_name(const std::string &name) {
  std::random_device random;
  char digits[16];
  snprintf(digits, sizeof digits, "%08x", random());
  return unfinished(name) + digits;
}

/// Warns of unfinished images: a server is creating one, or was killed while it did.
void name_unfinished(const Cluster &cluster, const std::string &name) {
  Refusal unlisted; // ignored: then there is no warning
  for (const std::string &one : list_images(cluster, unlisted).value_or(std::vector<std::string>()))
    if (is_unfinished(one, name))
      warn_operator("the image " + cluster.full_name(one) +
                    " is unfinished: a server is creating it now, or was killed while it did; "
                    "if no server is creating it, remove it with: rbd rm " +
                    cluster.full_name(one));
}

/// Creates the image under a temporary name, and renames it when it is complete.
int create_with_luks(const Cluster &cluster, const std::string &name) {
  const Library &library = cluster.library();
  name_unfinished(cluster, name);
  const std::string own_name = unfinished_name(name);
  // librbd writes a header only if the image has room for it.
  int order = 0; // from Ceph's configuration
  int result = library.rbd_create(cluster.pool(), own_name.c_str(),
                                  *cluster.settings().create_bytes + MAX_HEADER_BYTES, &order);
  if (result < 0)
    return result;
  result = format_luks(cluster, own_name);
  if (result >= 0)
    result = make_room_for_header(cluster, own_name);
  if (result >= 0) {
    result = library.rbd_rename(cluster.pool(), own_name.c_str(), name.c_str());
    if (result < 0 && result != -EEXIST)
      return result; // it may have both names: removing one would remove the data of both
  }
  if (result < 0)
    library.rbd_remove(cluster.pool(), own_name.c_str());
  return result;
}

} // namespace

bool create_image(const Cluster &cluster, const std::string &name, Refusal &refusal) {
  const Library &library = cluster.library();
  const Settings &settings = cluster.settings();
  if (settings.passphrase && library.rbd_encryption_format == nullptr) {
    refusal = {NO_LUKS, ENOTSUP};
    return false;
  }
  int order = 0; // from Ceph's configuration
  const int result = settings.passphrase ? create_with_luks(cluster, name)
                                         : library.rbd_create(cluster.pool(), name.c_str(),
                                                              *settings.create_bytes, &order);
  if (result >= 0 || result == -EEXIST)
    return true;
  const int error = client_error(result);
  refusal = {"cannot create the image " + cluster.full_name(name) + ": " +
                 (error == ENOSPC ? "the pool or the cluster is full" : strerror(-result)),
             error};
  return false;
}

bool unlock_luks(const Library &library, rbd_image_t image, const std::string &full_name,
                 const std::string &passphrase, Refusal &refusal) {
  if (library.rbd_encryption_load == nullptr) {
    refusal = {NO_LUKS, ENOTSUP};
    return false;
  }
  const int result = load_luks(library, image, passphrase);
  if (result >= 0)
    return true;
  const char *const reason = result == -EPERM    ? "the passphrase is wrong"
                             : result == -EINVAL ? "it has no LUKS header; leave out passphrase="
                                                 : strerror(-result);
  refusal = {"cannot unlock the image " + full_name + ": " + reason, EACCES};
  return false;
}

} // namespace rbd
