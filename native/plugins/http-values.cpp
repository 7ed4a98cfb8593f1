// See http-values.hpp.
#include "http-values.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <nbdkit-async.hpp>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "http-library.hpp"
#include "http-target.hpp"

namespace http::values {

[[noreturn]] void refuse(const std::string &words) {
  nbdkit_error("%s", words.c_str());
  throw nbdkit::Reported(EINVAL);
}

unsigned count_of(const std::string &key, const std::string &value, unsigned least) {
  unsigned count = 0;
  if (nbdkit_parse_unsigned(key.c_str(), value.c_str(), &count) == -1)
    throw nbdkit::Reported(EINVAL);
  if (count < least || count > 10'000)
    refuse(key + "=" + value + ": use a number from " + std::to_string(least) + " to 10000");
  return count;
}

unsigned milliseconds_of(const std::string &key, const std::string &value, unsigned least) {
  unsigned seconds = 0, nanoseconds = 0;
  if (nbdkit_parse_delay(key.c_str(), value.c_str(), &seconds, &nanoseconds) == -1)
    throw nbdkit::Reported(EINVAL);
  const uint64_t ms = seconds * UINT64_C(1000) + nanoseconds / 1'000'000;
  if (ms < least || ms > 86'400'000)
    refuse(key + "=" + value + ": use a time from " + std::to_string(least) + "ms to 86400s");
  return static_cast<unsigned>(ms);
}

std::string absolute(const std::string &value) {
  char *const path = nbdkit_absolute_path(value.c_str()); // the server changes directory
  if (path == nullptr)
    throw nbdkit::Reported(EINVAL);
  std::string copy = path;
  free(path);
  return copy;
}

std::string secret(const std::string &value) {
  char *password = nullptr;
  if (nbdkit_read_password(value.c_str(), &password) == -1)
    throw nbdkit::Reported(EINVAL);
  std::string copy = password;
  explicit_bzero(password, strlen(password));
  free(password);
  return copy;
}

namespace {

std::vector<std::string> checked_headers(const std::string &key, const std::string &text) {
  try {
    return header_lines(text);
  } catch (const std::runtime_error &error) {
    refuse(key + "=: " + error.what());
  }
}

/// The number of one of these names.
int one_of(const std::string &key, const std::string &value,
           std::initializer_list<std::pair<const char *, int>> names) {
  std::string known;
  for (const auto &[name, number] : names) {
    if (value == name)
      return number;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  refuse(key + "=" + value + ": use one of " + known);
}

} // namespace

std::string header_of(const std::string &key, const std::string &line) {
  std::vector<std::string> headers = checked_headers(key, line);
  if (headers.size() != 1)
    refuse(key + "=: expected NAME: VALUE");
  return headers.front();
}

std::vector<std::string> headers_of(const std::string &value) {
  std::string text = value;
  if (value.starts_with('+')) {
    std::ifstream file(absolute(value.substr(1)));
    std::stringstream all;
    all << file.rdbuf();
    if (!file)
      refuse("headers=" + value + ": cannot read this file");
    text = all.str();
  }
  return checked_headers("headers", text);
}

unsigned seconds_of(const std::string &key, const std::string &value) {
  unsigned seconds = 0, nanoseconds = 0;
  if (nbdkit_parse_delay(key.c_str(), value.c_str(), &seconds, &nanoseconds) == -1)
    throw nbdkit::Reported(EINVAL);
  return nanoseconds > 0 ? seconds + 1 : seconds;
}

int tls_version_of(const std::string &value) {
  return one_of("ssl-version", value,
                {{"default", CURL_SSLVERSION_DEFAULT},
                 {"tlsv1", CURL_SSLVERSION_TLSv1},
                 {"tlsv1.0", CURL_SSLVERSION_TLSv1_0},
                 {"tlsv1.1", CURL_SSLVERSION_TLSv1_1},
                 {"tlsv1.2", CURL_SSLVERSION_TLSv1_2},
                 {"tlsv1.3", CURL_SSLVERSION_TLSv1_3},
                 {"max-default", CURL_SSLVERSION_MAX_DEFAULT},
                 {"max-tlsv1.0", CURL_SSLVERSION_MAX_TLSv1_0},
                 {"max-tlsv1.1", CURL_SSLVERSION_MAX_TLSv1_1},
                 {"max-tlsv1.2", CURL_SSLVERSION_MAX_TLSv1_2},
                 {"max-tlsv1.3", CURL_SSLVERSION_MAX_TLSv1_3}});
}

int http_version_of(const std::string &value) {
  return one_of("http-version", value,
                {{"none", CURL_HTTP_VERSION_1_1},
                 {"1.0", CURL_HTTP_VERSION_1_0},
                 {"1.1", CURL_HTTP_VERSION_1_1},
                 // RFC 9113 has no upgrade from HTTP/1.1 any more: only TLS agrees on it.
                 {"2.0", CURL_HTTP_VERSION_2TLS},
                 {"2TLS", CURL_HTTP_VERSION_2TLS},
                 {"2-prior-knowledge", CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE}});
}

int ip_version_of(const std::string &value) {
  return one_of("ipresolve", value,
                {{"any", CURL_IPRESOLVE_WHATEVER},
                 {"whatever", CURL_IPRESOLVE_WHATEVER},
                 {"v4", CURL_IPRESOLVE_V4},
                 {"4", CURL_IPRESOLVE_V4},
                 {"v6", CURL_IPRESOLVE_V6},
                 {"6", CURL_IPRESOLVE_V6}});
}

} // namespace http::values
