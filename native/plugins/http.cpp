// A file on a web server as a read-only disk: the parameters of the http plugin. http-file.hpp does
// the work.
#include <nbdkit-async.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "http-file.hpp"
#include "http-library.hpp"

namespace {

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

unsigned milliseconds_of(const std::string &key, const std::string &value) {
  unsigned seconds = 0, nanoseconds = 0;
  if (nbdkit_parse_delay(key.c_str(), value.c_str(), &seconds, &nanoseconds) == -1)
    throw nbdkit::Reported(EINVAL);
  const uint64_t ms = seconds * UINT64_C(1000) + nanoseconds / 1'000'000;
  if (ms == 0 || ms > 86'400'000)
    refuse(key + "=" + value + ": use a time from 1ms to 86400s");
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

/// "Name: value", or another form that libcurl accepts. It is sent unchanged.
std::string header_of(const std::string &key, std::string line) {
  if (!line.empty() && line.back() == '\r')
    line.pop_back();
  const size_t colon = line.find(':');
  const bool is_name =
      colon != std::string::npos && colon > 0 && line.find_first_of(" \t") >= colon;
  if (!is_name || line.find_first_of("\r\n") != std::string::npos)
    refuse(key + "=: expected NAME: VALUE");
  return line;
}

std::vector<std::string> headers_of(const std::string &value) {
  std::string text = value;
  if (value.starts_with('+')) {
    std::ifstream file(absolute(value.substr(1)));
    std::stringstream all;
    all << file.rdbuf();
    if (!file)
      refuse("headers=" + value + ": cannot be read");
    text = all.str();
  }
  std::vector<std::string> headers;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.find_first_not_of(" \t\r") != std::string::npos)
      headers.push_back(header_of("headers", line));
  return headers;
}

class Http {
public:
  static constexpr const char *longname = "asyncnbd HTTP plugin";
  static constexpr const char *version = "2.0.0";
  static constexpr const char *description =
      "Serves a file on a web server as a read-only disk. The server must support range requests.";
  static constexpr const char *magic_config_key = "url";
  static constexpr const char *config_help =
      "[url=]<URL>             The file: an http: or https: URL.\n"
      "connections=<N>         Most requests at once (default 64).\n"
      "max-request=<SIZE>      Largest request of adjacent reads that wait (default 4M).\n"
      "retries=<N>             How often a request that fails is tried again (default 5).\n"
      "retry-delay=<TIME>      Before the first time (default 500ms); then doubled.\n"
      "deadline=<TIME>         A request fails after this time, with all tries (default 60s).\n"
      "timeout=<TIME>          How long the server may be silent (default 30s).\n"
      "connect-timeout=<TIME>  How long a connection may take to be there (default 10s).\n"
      "user=<USER>             Who asks.\n"
      "password=<PASSWORD>     -, -FD and +FILE keep it out of ps.\n"
      "header=<NAME: VALUE>    Sent with each request; any number of times.\n"
      "headers=+<FILE>         The same, from the lines of a file.\n"
      "cookie=<COOKIE>         Sent with each request.\n"
      "user-agent=<TEXT>       Who asks, in the log of the server; asyncnbd by default.\n"
      "followlocation=false    Do not follow redirects.\n"
      "cainfo=<FILE>           Certificates to trust (PEM), instead of the system's.\n"
      "capath=<DIRECTORY>      The same, hashed.\n"
      "sslverify=false         Trust any certificate.\n"
      "proxy=<URL>             Instead of what the environment says; proxy= for none.\n"
      "proxy-user=<USER>       Who asks there.\n"
      "proxy-password=<PASSWORD>\n"
      "                        As password=.\n"
      "unix-socket-path=<PATH> Connect there, whatever the host.\n"
      "tcp-keepalive=true      Have the system find connections that are dead.";

  bool config(const std::string &key, const std::string &value) {
    return set_request(key, value) || set_connection(key, value) || set_secret(key, value);
  }

  void config_complete() {
    if (file_.url.empty())
      refuse("the parameter url= is missing: give the URL of a file");
    if (http::library() == nullptr)
      throw nbdkit::Reported();
    if (!http::parse_url(file_.url))
      refuse("url=" + http::printable(file_.url) + ": not an http: or https: URL");
  }

  void get_ready() {
    try {
      served_ = std::make_unique<http::File>(file_, client_);
      served_->identify();
    } catch (const std::runtime_error &error) {
      nbdkit_error("%s", error.what());
      throw nbdkit::Reported();
    }
  }

  void cleanup() { served_.reset(); }

  void dump_plugin() {
    if (const http::Library *const library = http::library())
      printf("http_libcurl_version=%s\n", library->version);
  }

  uint64_t get_size() { return served_->size_bytes(); }
  bool can_multi_conn() { return true; }
  nbdkit::BlockSize block_size() { return {1, 65'536, 1U << 25}; }
  void read(nbdkit::ReadRequest request) { served_->read(std::move(request)); }

private:
  bool set_request(const std::string &key, const std::string &value) {
    if (key == "url")
      file_.url = value;
    else if (key == "max-request")
      file_.max_request_bytes = static_cast<uint64_t>(nbdkit::parse_size(value));
    else if (key == "retries")
      file_.retry.attempts = count_of(key, value, 0) + 1;
    else if (key == "retry-delay")
      file_.retry.delay_ms = milliseconds_of(key, value);
    else if (key == "deadline")
      file_.retry.deadline_ms = milliseconds_of(key, value);
    else if (key == "followlocation")
      file_.follows_redirects = nbdkit::parse_bool(value);
    else if (key == "user")
      file_.user = value;
    else
      return false;
    return true;
  }

  bool set_connection(const std::string &key, const std::string &value) {
    if (key == "connections")
      client_.connections = count_of(key, value, 1);
    else if (key == "timeout")
      client_.silence_ms = milliseconds_of(key, value);
    else if (key == "connect-timeout")
      client_.connect_timeout_ms = milliseconds_of(key, value);
    else if (key == "user-agent")
      client_.user_agent = value;
    else if (key == "cainfo")
      client_.ca_file = absolute(value);
    else if (key == "capath")
      client_.ca_directory = absolute(value);
    else if (key == "sslverify")
      client_.verifies_tls = nbdkit::parse_bool(value);
    else if (key == "proxy") {
      client_.proxy = value;
      client_.uses_proxy = !value.empty();
    } else if (key == "proxy-user")
      client_.proxy_user = value;
    else if (key == "unix-socket-path")
      client_.unix_socket = absolute(value);
    else if (key == "tcp-keepalive")
      client_.tcp_keepalive = nbdkit::parse_bool(value);
    else
      return false;
    return true;
  }

  bool set_secret(const std::string &key, const std::string &value) {
    if (key == "password")
      file_.password = secret(value);
    else if (key == "proxy-password")
      client_.proxy_password = secret(value);
    else if (key == "header")
      file_.headers.push_back(header_of(key, value));
    else if (key == "cookie")
      file_.headers.push_back(header_of(key, "Cookie: " + value));
    else if (key == "headers")
      for (std::string &line : headers_of(value))
        file_.headers.push_back(std::move(line));
    else
      return false;
    return true;
  }

  http::FileSettings file_;
  http::Settings client_;
  std::unique_ptr<http::File> served_;
};

} // namespace

NBDKIT_ASYNC_PLUGIN(Http, "http")
