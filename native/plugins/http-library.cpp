// See http-library.hpp.
#include "http-library.hpp"

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "found-library.hpp"

namespace http {

namespace {

constexpr const char *PACKAGE =
    "the package libcurl4 or libcurl4t64 (Debian, Ubuntu) or libcurl (Fedora, RHEL) has it";

constexpr unsigned OLDEST = 0x074200;     // 7.66
constexpr unsigned SIGNS_FROM = 0x074b00; // 7.75
// 7.88 cannot use a connection of CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE twice, 8.0 can:
// https://github.com/curl/curl/issues/10634
constexpr unsigned BROKEN_FROM = 0x075800;
constexpr unsigned BROKEN_UNTIL = 0x080000;

// The same interface, with different TLS libraries.
void *open_curl() {
  for (const char *name : {"libcurl.so.4", "libcurl-gnutls.so.4"})
    if (void *const handle = found::open_library(name); handle != nullptr)
      return handle;
  nbdkit_error("HTTP needs libcurl: %s; %s", dlerror(), PACKAGE);
  return nullptr;
}

bool load(Library &library) {
  void *const handle = open_curl();
  if (handle == nullptr)
    return false;
  const char *missing = nullptr;
  // NOLINTBEGIN(bugprone-macro-parentheses): types cannot be in parentheses
#define ASYNCNBD_FIND(name, result, parameters)                                                    \
  library.name = reinterpret_cast<result(*) parameters>(dlsym(handle, #name));                     \
  if (library.name == nullptr)                                                                     \
    missing = #name;
  ASYNCNBD_CURL_FUNCTIONS(ASYNCNBD_FIND)
#undef ASYNCNBD_FIND
  // NOLINTEND(bugprone-macro-parentheses)
  if (missing != nullptr) {
    nbdkit_error("libcurl is too old: it has no %s; HTTP needs version 7.66 or newer", missing);
    return false;
  }
  const curl_version_info_data &version = *library.curl_version_info(CURLVERSION_FIRST);
  if (version.version_num < OLDEST) {
    nbdkit_error("libcurl %s is too old: HTTP needs version 7.66 or newer", version.version);
    return false;
  }
  if (library.curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK) {
    nbdkit_error("libcurl %s failed to start", version.version);
    return false;
  }
  library.version = version.version;
  library.can_sign = version.version_num >= SIGNS_FROM;
  library.can_reuse_prior_knowledge =
      version.version_num < BROKEN_FROM || version.version_num >= BROKEN_UNTIL;
  return true;
}

} // namespace

const Library *library() {
  return found::load_once(load);
}

} // namespace http
