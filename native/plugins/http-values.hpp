// Parses the values of the http plugin's parameters. If a value is wrong, all of these throw
// nbdkit::Reported, after nbdkit_error().
#ifndef ASYNCNBD_HTTP_VALUES_HPP
#define ASYNCNBD_HTTP_VALUES_HPP

#include <string>
#include <vector>

namespace http::values {

[[noreturn]] void refuse(const std::string &words);

unsigned count_of(const std::string &key, const std::string &value, unsigned least);
unsigned milliseconds_of(const std::string &key, const std::string &value, unsigned least = 1);
unsigned seconds_of(const std::string &key, const std::string &value);
/// The absolute path, because the server changes directory.
std::string absolute(const std::string &value);
/// The password, which is given itself, or as -, -FD or +FILE.
std::string secret(const std::string &value);
/// A header, which is one line and is sent unchanged.
std::string header_of(const std::string &key, const std::string &line);
/// Headers, which are given as lines, or as +FILE.
std::vector<std::string> headers_of(const std::string &value);
/// As libcurl's numbers.
int tls_version_of(const std::string &value);
int http_version_of(const std::string &value);
int ip_version_of(const std::string &value);

} // namespace http::values

#endif
