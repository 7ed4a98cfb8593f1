// What http-library.hpp declares is what libcurl's own headers do, where those are installed.
#include <doctest/doctest.h>

#if __has_include(<curl/curl.h>)

#define CURL_DISABLE_DEPRECATION
#include <cstddef>
#include <curl/curl.h>
#include <type_traits>

#define ASYNCNBD_CURL_NUMBERS_ELSEWHERE
#include "plugins/http-library.hpp"

namespace {

// Alike for the processor: the same type, an enumeration of theirs that is int here, or a pointer
// to a structure; those are compared below.
template <class Ours, class Theirs> constexpr bool is_alike() {
  using From = std::remove_cv_t<std::remove_pointer_t<Ours>>;
  using To = std::remove_cv_t<std::remove_pointer_t<Theirs>>;
  if constexpr (std::is_enum_v<Theirs>)
    return std::is_same_v<Ours, int> && sizeof(Theirs) == sizeof(int);
  else if constexpr (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>)
    return std::is_same_v<Ours, Theirs> || (std::is_class_v<From> && std::is_class_v<To>);
  else
    return std::is_same_v<Ours, Theirs>;
}

template <class Ours, class Theirs> struct IsSame : std::false_type {};
template <class R1, class... A1, class R2, class... A2>
struct IsSame<R1 (*)(A1...), R2 (*)(A2...)> {
  static constexpr bool same() {
    if constexpr (sizeof...(A1) != sizeof...(A2))
      return false;
    else
      return is_alike<R1, R2>() && (is_alike<A1, A2>() && ...);
  }
  static constexpr bool value = same();
};
// With "...".
template <class R1, class... A1, class R2, class... A2>
struct IsSame<R1 (*)(A1..., ...), R2 (*)(A2..., ...)> : IsSame<R1 (*)(A1...), R2 (*)(A2...)> {};

#define CHECK_SAME(name, result, parameters)                                                       \
  static_assert(IsSame<decltype(http::Library::name), decltype(&::name)>::value, #name);
ASYNCNBD_CURL_FUNCTIONS(CHECK_SAME)

static_assert(sizeof(::CURLMsg) == sizeof(http::CURLMsg));
static_assert(offsetof(::CURLMsg, easy_handle) == offsetof(http::CURLMsg, easy_handle));
static_assert(offsetof(::CURLMsg, data) == offsetof(http::CURLMsg, data));
static_assert(sizeof(::curl_slist) == sizeof(http::curl_slist));
static_assert(offsetof(::curl_slist, next) == offsetof(http::curl_slist, next));
static_assert(sizeof(::curl_sockaddr) == sizeof(http::curl_sockaddr));
static_assert(offsetof(::curl_sockaddr, addr) == offsetof(http::curl_sockaddr, addr));
static_assert(offsetof(::curl_version_info_data, version_num) ==
              offsetof(http::curl_version_info_data, version_num));
static_assert(sizeof(::curl_off_t) == sizeof(int64_t));

} // namespace

TEST_CASE("libcurl: numbers are libcurl's") {
#define CHECK_NUMBER(name, value) CHECK(static_cast<long>(name) == static_cast<long>(value));
  ASYNCNBD_CURL_NUMBERS(CHECK_NUMBER)
}

#endif
