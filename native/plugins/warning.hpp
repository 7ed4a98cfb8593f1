// Warnings of our plugins: log lines for the operator that are no errors.
#ifndef ASYNCNBD_WARNING_HPP
#define ASYNCNBD_WARNING_HPP

#include <string>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

/// Logs a warning, or an error line under a server that has no warnings.
inline void warn_operator(const std::string &words) {
  if (asyncnbd_warning != nullptr)
    asyncnbd_warning("%s", words.c_str());
  else
    nbdkit_error("%s", words.c_str());
}

#endif
