// nbdkit_*_intern: strings that live as long as the connection being served, or the process.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "host/abi.hpp"
#include "host/context.hpp"

using namespace asyncnbd::host;

namespace {

const char *intern(std::string_view text) {
  CallContext *context = current_context();
  return context != nullptr ? context->interns.add(text) : process_interns().add(text);
}

} // namespace

extern "C" {

NBDKIT_DLL_PUBLIC const char *nbdkit_strdup_intern(const char *str) {
  if (str == nullptr) {
    nbdkit_error("nbdkit_strdup_intern: no string given");
    errno = EINVAL;
    return nullptr;
  }
  return intern(str);
}

NBDKIT_DLL_PUBLIC const char *nbdkit_strndup_intern(const char *str, size_t n) {
  if (str == nullptr) {
    nbdkit_error("nbdkit_strndup_intern: no string given");
    errno = EINVAL;
    return nullptr;
  }
  return intern(std::string_view(str, strnlen(str, n)));
}

NBDKIT_DLL_PUBLIC const char *nbdkit_vprintf_intern(const char *msg, va_list args) {
  char *text = nullptr;
  if (vasprintf(&text, msg, args) == -1) {
    nbdkit_error("nbdkit_vprintf_intern: %m");
    return nullptr;
  }
  const char *result = intern(text);
  free(text);
  return result;
}

NBDKIT_DLL_PUBLIC const char *nbdkit_printf_intern(const char *msg, ...) {
  va_list args;
  va_start(args, msg);
  const char *result = nbdkit_vprintf_intern(msg, args);
  va_end(args);
  return result;
}

} // extern "C"
