// The names of a pool's images.
#ifndef ASYNCNBD_RBD_LISTING_HPP
#define ASYNCNBD_RBD_LISTING_HPP

#include <optional>
#include <string>
#include <vector>

#include "rbd-cluster.hpp"

namespace rbd {

/// No value on failure: see `refusal`. Waits for the cluster.
std::optional<std::vector<std::string>> list_images(const Cluster &cluster, Refusal &refusal);

/// "cannot list …", for messages.
std::string cannot_list(const Settings &settings);

} // namespace rbd

#endif
