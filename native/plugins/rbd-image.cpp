// See rbd-image.hpp.
#include "rbd-image.hpp"

#include <cerrno>
#include <cstring>

#include "rbd-errors.hpp"
#include "rbd-luks.hpp"

namespace rbd {

namespace {

/// Why an image could not be opened.
Refusal explain_open(const Settings &settings, const std::string &full_name,
                     const std::string &snapshot, bool is_readonly, int result) {
  const int error = client_error(result);
  if (result == -ENOENT && !snapshot.empty())
    return {"there is no image " + full_name + " with a snapshot \"" + snapshot + "\"", error};
  if (result == -ENOENT)
    return {"there is no image " + full_name, error};
  if (result == -EPERM || result == -EACCES)
    return {"the Ceph cluster does not allow client." + settings.id + " to open " + full_name +
                (is_readonly ? "" : " for writing") +
                ": give it rights on the pool (such as osd 'profile rbd pool=" + settings.pool +
                "')" + (is_readonly ? "" : ", or serve with -r"),
            error};
  return {"cannot open the image " + full_name + ": " + strerror(-result), error};
}

} // namespace

std::unique_ptr<Image> Image::open(const Cluster &cluster, const std::string &name,
                                   const std::string &snapshot, bool is_readonly,
                                   Refusal &refusal) {
  const Library &library = cluster.library();
  const Settings &settings = cluster.settings();
  const std::string full_name = cluster.full_name(name);
  const auto open_it = is_readonly ? library.rbd_open_read_only : library.rbd_open;
  const char *const at = snapshot.empty() ? nullptr : snapshot.c_str();
  rbd_image_t handle = nullptr;
  int result = open_it(cluster.pool(), name.c_str(), &handle, at);
  if (result == -ENOENT && settings.create_bytes && !is_readonly && snapshot.empty()) {
    if (!create_image(cluster, name, refusal))
      return nullptr;
    result = open_it(cluster.pool(), name.c_str(), &handle, at);
  }
  if (result < 0) {
    refusal = explain_open(settings, full_name, snapshot, is_readonly, result);
    return nullptr;
  }
  std::unique_ptr<Image> image(new Image(library, handle, full_name, settings.timeout_seconds));
  if (settings.exclusive && !is_readonly && !image->lock(refusal))
    return nullptr;
  if (settings.passphrase &&
      !unlock_luks(library, handle, full_name, *settings.passphrase, refusal))
    return nullptr;
  return image->start(refusal) ? std::move(image) : nullptr;
}

bool Image::lock(Refusal &refusal) {
  const int result = library_.rbd_lock_acquire(image_, RBD_LOCK_MODE_EXCLUSIVE);
  if (result >= 0)
    return true;
  const char *const reason = result == -EINVAL ? "its exclusive-lock feature is off; turn it on "
                                                 "with rbd feature enable"
                             : result == -EROFS || result == -EBUSY
                                 ? "another client holds its lock"
                                 : strerror(-result);
  refusal = {"exclusive=true: cannot lock the image " + full_name_ + ": " + reason,
             client_error(result)};
  return false;
}

bool Image::start(Refusal &refusal) {
  requests_.emplace(library_, image_, full_name_, deadlines_);
  questions_.emplace(library_, image_, full_name_, deadlines_);
  int error = requests_->start();
  if (error == 0)
    error = questions_->start();
  if (error != 0)
    refusal = {"cannot start a thread for " + full_name_ + ": " + strerror(error), error};
  return error == 0;
}

Image::~Image() {
  questions_.reset();
  requests_.reset();
  library_.rbd_close(image_);
}

int64_t Image::size_bytes(Refusal &refusal) const {
  uint64_t bytes = 0;
  const int result = library_.rbd_get_size(image_, &bytes);
  if (result >= 0)
    return static_cast<int64_t>(bytes);
  refusal = {"cannot get the size of " + full_name_ + ": " + strerror(-result),
             client_error(result)};
  return -1;
}

} // namespace rbd
