// What the values of the http plugin's parameters mean. All of these throw nbdkit::Reported, after
// nbdkit_error(), if a value is wrong.
#ifndef ASYNCNBD_HTTP_VALUES_HPP
#define ASYNCNBD_HTTP_VALUES_HPP

#include <string>
#include <vector>

namespace http::values {

[[noreturn]] void refuse(const std::string &words);

unsigned count_of(const std::string &key, const std::string &value, unsigned least);
unsigned milliseconds_of(const std::string &key, const std::string &value, unsigned least = 1);
unsigned seconds_of(const std::string &key, const std::string &value);
/// The path, whatever directory the server changes to.
std::string absolute(const std::string &value);
/// A password, or where it is: -, -FD or +FILE.
std::string secret(const std::string &value);
/// One line. It is sent unchanged.
std::string header_of(const std::string &key, const std::string &line);
/// Lines, or +FILE.
std::vector<std::string> headers_of(const std::string &value);
/// The numbers that libcurl takes.
int tls_version_of(const std::string &value);
int http_version_of(const std::string &value);
int ip_version_of(const std::string &value);

} // namespace http::values

#endif
