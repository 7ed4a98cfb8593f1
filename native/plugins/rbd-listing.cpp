// See rbd-listing.hpp.
#include "rbd-listing.hpp"

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace rbd {

std::string cannot_list(const Settings &settings) {
  return "cannot list the images of the pool " + settings.pool;
}

std::optional<std::vector<std::string>> list_images(const Cluster &cluster, Refusal &refusal) {
  const Library &library = cluster.library();
  const Settings &settings = cluster.settings();
  std::vector<rbd_image_spec_t> images;
  size_t count = 64;
  int result = 0;
  do { // until all fit: their number may grow meanwhile
    images.resize(count);
    result = library.rbd_list2(cluster.pool(), images.data(), &count);
  } while (result == -ERANGE);
  if (result == -EPERM || result == -EACCES) {
    refusal = {"the Ceph cluster does not allow client." + settings.id +
                   " to list the images of the pool " + settings.pool +
                   ": give it rights on the pool (such as osd 'profile rbd pool=" + settings.pool +
                   "')",
               -result};
    return std::nullopt;
  }
  if (result < 0) {
    refusal = {cannot_list(settings) + ": " + strerror(-result), client_error(result)};
    return std::nullopt;
  }
  std::vector<std::string> names;
  for (size_t i = 0; i < count; i++)
    names.emplace_back(images[i].name);
  library.rbd_image_spec_list_cleanup(images.data(), count);
  return names;
}

} // namespace rbd
