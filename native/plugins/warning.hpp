// Warnings of our plugins: lines for the operator when nothing has failed.
#ifndef ASYNCNBD_WARNING_HPP
#define ASYNCNBD_WARNING_HPP

#include <string>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

/// Under a server without warnings, logs an error line.
inline void warn_operator(const std::string &words) {
  if (asyncnbd_warning != nullptr)
    asyncnbd_warning("%s", words.c_str());
  else
    nbdkit_error("%s", words.c_str());
}

#endif
