// The parameters of the rbd plugin.
#ifndef ASYNCNBD_RBD_PARAMETERS_HPP
#define ASYNCNBD_RBD_PARAMETERS_HPP

#include <string>

#include "rbd-cluster.hpp"

namespace rbd {

/// Takes one parameter. -1 on failure, after nbdkit_error().
int set_parameter(Settings &settings, const std::string &key, const char *value);
/// Call it after the last parameter: checks that they fit together. -1 on failure, after
/// nbdkit_error().
int complete(Settings &settings);

extern const char *const PARAMETERS_HELP;

} // namespace rbd

#endif
