// libcurl, found at run time, so that one binary works with and without it. Declared here from its
// documented interface, so that the build does not need libcurl; a test compares the declarations
// with libcurl's own headers.
#ifndef ASYNCNBD_HTTP_LIBRARY_HPP
#define ASYNCNBD_HTTP_LIBRARY_HPP

#include <cstddef>
#include <cstdint>
#include <sys/socket.h>
#include <sys/types.h>

namespace http {

using CURL = void;
using CURLM = void;
using CURLSH = void;
struct CURLU;

struct curl_slist {
  char *data;
  curl_slist *next;
};

struct CURLMsg {
  int msg;
  CURL *easy_handle;
  union {
    void *whatever;
    int result;
  } data;
};

struct curl_sockaddr {
  int family;
  int socktype;
  int protocol;
  unsigned addrlen;
  sockaddr addr;
};

/// Only the first fields, which all versions have.
struct curl_version_info_data {
  int age;
  const char *version;
  unsigned version_num;
};

// libcurl's numbers, with their names.
#define ASYNCNBD_CURL_NUMBERS(X)                                                                   \
  X(CURLOPT_WRITEDATA, 10001)                                                                      \
  X(CURLOPT_URL, 10002)                                                                            \
  X(CURLOPT_PROXY, 10004)                                                                          \
  X(CURLOPT_RANGE, 10007)                                                                          \
  X(CURLOPT_ERRORBUFFER, 10010)                                                                    \
  X(CURLOPT_POSTFIELDS, 10015)                                                                     \
  X(CURLOPT_USERAGENT, 10018)                                                                      \
  X(CURLOPT_COOKIE, 10022)                                                                         \
  X(CURLOPT_HTTPHEADER, 10023)                                                                     \
  X(CURLOPT_HEADERDATA, 10029)                                                                     \
  X(CURLOPT_COOKIEFILE, 10031)                                                                     \
  X(CURLOPT_SSLVERSION, 32)                                                                        \
  X(CURLOPT_CUSTOMREQUEST, 10036)                                                                  \
  X(CURLOPT_NOBODY, 44)                                                                            \
  X(CURLOPT_POST, 47)                                                                              \
  X(CURLOPT_SSL_VERIFYPEER, 64)                                                                    \
  X(CURLOPT_CAINFO, 10065)                                                                         \
  X(CURLOPT_HTTPGET, 80)                                                                           \
  X(CURLOPT_SSL_VERIFYHOST, 81)                                                                    \
  X(CURLOPT_COOKIEJAR, 10082)                                                                      \
  X(CURLOPT_SSL_CIPHER_LIST, 10083)                                                                \
  X(CURLOPT_HTTP_VERSION, 84)                                                                      \
  X(CURLOPT_CAPATH, 10097)                                                                         \
  X(CURLOPT_BUFFERSIZE, 98)                                                                        \
  X(CURLOPT_NOSIGNAL, 99)                                                                          \
  X(CURLOPT_SHARE, 10100)                                                                          \
  X(CURLOPT_PRIVATE, 10103)                                                                        \
  X(CURLOPT_HTTPAUTH, 107)                                                                         \
  X(CURLOPT_IPRESOLVE, 113)                                                                        \
  X(CURLOPT_TCP_NODELAY, 121)                                                                      \
  X(CURLOPT_CONNECTTIMEOUT_MS, 156)                                                                \
  X(CURLOPT_USERNAME, 10173)                                                                       \
  X(CURLOPT_PASSWORD, 10174)                                                                       \
  X(CURLOPT_PROXYUSERNAME, 10175)                                                                  \
  X(CURLOPT_PROXYPASSWORD, 10176)                                                                  \
  X(CURLOPT_NOPROXY, 10177)                                                                        \
  X(CURLOPT_PROTOCOLS, 181)                                                                        \
  X(CURLOPT_OPENSOCKETDATA, 10164)                                                                 \
  X(CURLOPT_CLOSESOCKETDATA, 10209)                                                                \
  X(CURLOPT_TCP_KEEPALIVE, 213)                                                                    \
  X(CURLOPT_RESOLVE, 10203)                                                                        \
  X(CURLOPT_UNIX_SOCKET_PATH, 10231)                                                               \
  X(CURLOPT_SUPPRESS_CONNECT_HEADERS, 265)                                                         \
  X(CURLOPT_EXPECT_100_TIMEOUT_MS, 227)                                                            \
  X(CURLOPT_PATH_AS_IS, 234)                                                                       \
  X(CURLOPT_TLS13_CIPHERS, 10276)                                                                  \
  X(CURLOPT_AWS_SIGV4, 10305)                                                                      \
  X(CURLOPT_QUICK_EXIT, 322)                                                                       \
  X(CURLOPT_WRITEFUNCTION, 20011)                                                                  \
  X(CURLOPT_HEADERFUNCTION, 20079)                                                                 \
  X(CURLOPT_OPENSOCKETFUNCTION, 20163)                                                             \
  X(CURLOPT_CLOSESOCKETFUNCTION, 20208)                                                            \
  X(CURLOPT_POSTFIELDSIZE_LARGE, 30120)                                                            \
  X(CURLMOPT_SOCKETFUNCTION, 20001)                                                                \
  X(CURLMOPT_SOCKETDATA, 10002)                                                                    \
  X(CURLMOPT_TIMERFUNCTION, 20004)                                                                 \
  X(CURLMOPT_TIMERDATA, 10005)                                                                     \
  X(CURLMOPT_MAXCONNECTS, 6)                                                                       \
  X(CURLSHOPT_SHARE, 1)                                                                            \
  X(CURL_LOCK_DATA_COOKIE, 2)                                                                      \
  X(CURLINFO_PRIVATE, 0x100015)                                                                    \
  X(CURLINFO_OS_ERRNO, 0x200019)                                                                   \
  X(CURLINFO_SIZE_UPLOAD_T, 0x600007)                                                              \
  X(CURLE_OK, 0)                                                                                   \
  X(CURLE_COULDNT_RESOLVE_PROXY, 5)                                                                \
  X(CURLE_COULDNT_RESOLVE_HOST, 6)                                                                 \
  X(CURLE_COULDNT_CONNECT, 7)                                                                      \
  X(CURLE_HTTP2, 16)                                                                               \
  X(CURLE_PARTIAL_FILE, 18)                                                                        \
  X(CURLE_WRITE_ERROR, 23)                                                                         \
  X(CURLE_OPERATION_TIMEDOUT, 28)                                                                  \
  X(CURLE_SSL_CONNECT_ERROR, 35)                                                                   \
  X(CURLE_GOT_NOTHING, 52)                                                                         \
  X(CURLE_SEND_ERROR, 55)                                                                          \
  X(CURLE_RECV_ERROR, 56)                                                                          \
  X(CURLE_SSL_CERTPROBLEM, 58)                                                                     \
  X(CURLE_SSL_CIPHER, 59)                                                                          \
  X(CURLE_PEER_FAILED_VERIFICATION, 60)                                                            \
  X(CURLE_SSL_CACERT_BADFILE, 77)                                                                  \
  X(CURLE_SSL_ISSUER_ERROR, 83)                                                                    \
  X(CURLE_HTTP2_STREAM, 92)                                                                        \
  X(CURLE_PROXY, 97)                                                                               \
  X(CURLMSG_DONE, 1)                                                                               \
  X(CURL_POLL_IN, 1)                                                                               \
  X(CURL_POLL_OUT, 2)                                                                              \
  X(CURL_POLL_REMOVE, 4)                                                                           \
  X(CURL_CSELECT_IN, 1)                                                                            \
  X(CURL_CSELECT_OUT, 2)                                                                           \
  X(CURL_CSELECT_ERR, 4)                                                                           \
  X(CURL_SOCKET_TIMEOUT, -1)                                                                       \
  X(CURL_GLOBAL_ALL, 3)                                                                            \
  X(CURL_HTTP_VERSION_1_1, 2)                                                                      \
  X(CURL_HTTP_VERSION_1_0, 1)                                                                      \
  X(CURL_HTTP_VERSION_2TLS, 4)                                                                     \
  X(CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE, 5)                                                        \
  X(CURL_IPRESOLVE_WHATEVER, 0)                                                                    \
  X(CURL_IPRESOLVE_V4, 1)                                                                          \
  X(CURL_IPRESOLVE_V6, 2)                                                                          \
  X(CURLAUTH_BASIC, 1)                                                                             \
  X(CURLPROTO_HTTP, 1)                                                                             \
  X(CURLPROTO_HTTPS, 2)                                                                            \
  X(CURL_SSLVERSION_DEFAULT, 0)                                                                    \
  X(CURL_SSLVERSION_TLSv1, 1)                                                                      \
  X(CURL_SSLVERSION_TLSv1_0, 4)                                                                    \
  X(CURL_SSLVERSION_TLSv1_1, 5)                                                                    \
  X(CURL_SSLVERSION_TLSv1_2, 6)                                                                    \
  X(CURL_SSLVERSION_TLSv1_3, 7)                                                                    \
  X(CURL_SSLVERSION_MAX_DEFAULT, 0x10000)                                                          \
  X(CURL_SSLVERSION_MAX_TLSv1_0, 0x40000)                                                          \
  X(CURL_SSLVERSION_MAX_TLSv1_1, 0x50000)                                                          \
  X(CURL_SSLVERSION_MAX_TLSv1_2, 0x60000)                                                          \
  X(CURL_SSLVERSION_MAX_TLSv1_3, 0x70000)                                                          \
  X(CURLUPART_URL, 0)                                                                              \
  X(CURLUPART_SCHEME, 1)                                                                           \
  X(CURLUPART_USER, 2)                                                                             \
  X(CURLUPART_PASSWORD, 3)                                                                         \
  X(CURLUPART_HOST, 5)                                                                             \
  X(CURLUPART_PORT, 6)                                                                             \
  X(CURLUPART_FRAGMENT, 9)                                                                         \
  X(CURLU_DEFAULT_PORT, 1)                                                                         \
  X(CURLU_URLDECODE, 64)                                                                           \
  X(CURLVERSION_FIRST, 0)

#ifndef ASYNCNBD_CURL_NUMBERS_ELSEWHERE // for the test, which uses libcurl's CURLE_OK and others
// NOLINTNEXTLINE(bugprone-macro-parentheses): a name
#define ASYNCNBD_NUMBER(name, value) constexpr int name = value;
ASYNCNBD_CURL_NUMBERS(ASYNCNBD_NUMBER)
#undef ASYNCNBD_NUMBER
#endif

// NAME, result, parameters; libcurl's enumerations are int here.
#define ASYNCNBD_CURL_FUNCTIONS(X)                                                                 \
  X(curl_global_init, int, (long flags))                                                           \
  X(curl_version_info, curl_version_info_data *, (int age))                                        \
  X(curl_getdate, time_t, (const char *text, const time_t *unused))                                \
  X(curl_free, void, (void *))                                                                     \
  X(curl_slist_append, curl_slist *, (curl_slist *, const char *text))                             \
  X(curl_slist_free_all, void, (curl_slist *))                                                     \
  X(curl_easy_init, CURL *, ())                                                                    \
  X(curl_easy_cleanup, void, (CURL *))                                                             \
  X(curl_easy_setopt, int, (CURL *, int option, ...))                                              \
  X(curl_easy_getinfo, int, (CURL *, int info, ...))                                               \
  X(curl_easy_strerror, const char *, (int code))                                                  \
  X(curl_multi_init, CURLM *, ())                                                                  \
  X(curl_multi_cleanup, int, (CURLM *))                                                            \
  X(curl_multi_setopt, int, (CURLM *, int option, ...))                                            \
  X(curl_multi_add_handle, int, (CURLM *, CURL *))                                                 \
  X(curl_multi_remove_handle, int, (CURLM *, CURL *))                                              \
  X(curl_multi_socket_action, int, (CURLM *, int fd, int events, int *running))                    \
  X(curl_multi_info_read, CURLMsg *, (CURLM *, int *left))                                         \
  X(curl_share_init, CURLSH *, ())                                                                 \
  X(curl_share_setopt, int, (CURLSH *, int option, ...))                                           \
  X(curl_share_cleanup, int, (CURLSH *))                                                           \
  X(curl_url, CURLU *, ())                                                                         \
  X(curl_url_cleanup, void, (CURLU *))                                                             \
  X(curl_url_get, int, (const CURLU *, int part, char **text, unsigned flags))                     \
  X(curl_url_set, int, (CURLU *, int part, const char *text, unsigned flags))

// NOLINTBEGIN(bugprone-macro-parentheses): types cannot be in parentheses
struct Library {
#define ASYNCNBD_MEMBER(name, result, parameters) result(*name) parameters = nullptr;
  ASYNCNBD_CURL_FUNCTIONS(ASYNCNBD_MEMBER)
#undef ASYNCNBD_MEMBER
  const char *version = "";
  bool can_sign = false;
  bool can_reuse_prior_knowledge = false;
};
// NOLINTEND(bugprone-macro-parentheses)

/// The functions, looked up at the first call and never freed. Null if the library is missing or
/// too old, after nbdkit_error(). Any thread.
const Library *library();

} // namespace http

#endif
