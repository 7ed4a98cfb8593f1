// Creates images, and opens those that are encrypted with LUKS.
#ifndef ASYNCNBD_RBD_LUKS_HPP
#define ASYNCNBD_RBD_LUKS_HPP

#include <string>

#include "rbd-cluster.hpp"

namespace rbd {

/// Creates the image with the size of create=; with a passphrase, it gets LUKS 2, and the disk in
/// it has that size. Succeeds as well if another client has just created it. An image called NAME
/// can always be opened: with LUKS it is called NAME.new-DIGITS until it is complete. Waits for the
/// cluster.
bool create_image(const Cluster &cluster, const std::string &name, Refusal &refusal);

/// Has librbd decrypt what is read and encrypt what is written. Waits for the cluster.
bool unlock_luks(const Library &library, rbd_image_t image, const std::string &full_name,
                 const std::string &passphrase, Refusal &refusal);

} // namespace rbd

#endif
