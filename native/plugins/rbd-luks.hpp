// New images, and those that have LUKS.
#ifndef ASYNCNBD_RBD_LUKS_HPP
#define ASYNCNBD_RBD_LUKS_HPP

#include <string>

#include "rbd-cluster.hpp"

namespace rbd {

/// Makes the image, of create=; with a passphrase, one with LUKS 2 whose disk has that size. One
/// that another client has just made is as good. An image of that name can always be opened: with
/// LUKS it has another name, NAME.new-DIGITS, until it is complete. Waits for the cluster.
bool create_image(const Cluster &cluster, const std::string &name, Refusal &refusal);

/// Has librbd decrypt and encrypt. Waits for the cluster.
bool unlock_luks(const Library &library, rbd_image_t image, const std::string &full_name,
                 const std::string &passphrase, Refusal &refusal);

} // namespace rbd

#endif
