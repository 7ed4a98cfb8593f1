// A file on a web server as a read-only disk: the parameters of the http plugin. http-file.hpp does
// the work.
#include <nbdkit-async.hpp>

#include <cstdio>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "http-file.hpp"
#include "http-library.hpp"
#include "http-values.hpp"

namespace {

using namespace http::values;

class Http {
public:
  static constexpr const char *longname = "asyncnbd HTTP plugin";
  static constexpr const char *version = "2.0.0";
  static constexpr const char *description =
      "Serves a file on a web server as a read-only disk. The server must support range requests.";
  static constexpr const char *magic_config_key = "url";
  static constexpr const char *config_help =
      "[url=]<URL>             The file: an http: or https: URL.\n"
      "connections=<N>         Requests to send at once, at most (default 64).\n"
      "max-request=<SIZE>      Join adjacent reads that wait, up to this size (default 4M).\n"
      "retries=<N>             How often to retry a failed request (default 5).\n"
      "retry-delay=<TIME>      The wait before the first retry (default 500ms); then doubled.\n"
      "deadline=<TIME>         Give up a request after this time, with all retries (default 60s).\n"
      "timeout=<TIME>          How long the server may be silent (default 30s); 0: no limit.\n"
      "connect-timeout=<TIME>  How long it may take to connect (default 10s).\n"
      "user=<USER>             User name for the server.\n"
      "password=<PASSWORD>     Password for the server; -, -FD and +FILE keep it out of ps.\n"
      "header=<NAME: VALUE>    Send this header with each request; may be repeated.\n"
      "headers=+<FILE>         The same, from a file with one header on each line.\n"
      "header-script=<COMMAND> Run this at the start; it prints the headers to send.\n"
      "header-script-renew=<TIME>\n"
      "                        Run it again after each such time.\n"
      "cookie=<COOKIE>         Send these with each request: NAME=VALUE; NAME=VALUE.\n"
      "cookie-script=<COMMAND> Run this at the start; it prints the cookies to send.\n"
      "cookie-script-renew=<TIME>\n"
      "                        Run it again after each such time.\n"
      "cookiefile=<FILE>       Keep the server's cookies; read this file of cookies first.\n"
      "cookiejar=<FILE>        The same, and save the cookies in this file at the end.\n"
      "user-agent=<TEXT>       The User-Agent header; asyncnbd by default.\n"
      "followlocation=false    Do not follow redirects.\n"
      "protocols=<http,https>  Allowed schemes, also for redirects; both by default.\n"
      "cainfo=<FILE>           Trust these certificates (PEM) instead of the system's; cainfo=\n"
      "                        leaves out the system's file.\n"
      "capath=<DIRECTORY>      The same, as a directory of certificates with hashed names.\n"
      "sslverify=false         Trust any certificate.\n"
      "ssl-version=<VERSION>   Lowest version of TLS, tlsv1.0 to tlsv1.3, or the highest, as\n"
      "                        max-tlsv1.2.\n"
      "ssl-cipher-list=<LIST>  Ciphers for TLS up to 1.2.\n"
      "tls13-ciphers=<LIST>    Ciphers for TLS 1.3.\n"
      "http-version=<VERSION>  1.0, 1.1 (the default), 2.0, 2TLS or 2-prior-knowledge.\n"
      "ipresolve=<VERSION>     v4 or v6: use only such addresses of a host.\n"
      "resolve=<HOST>:<PORT>:<ADDRESS>\n"
      "                        Use this address for that host and port; may be repeated.\n"
      "proxy=<URL>             Use this proxy, not the environment's; proxy= for none.\n"
      "proxy-user=<USER>       User name for the proxy.\n"
      "proxy-password=<PASSWORD>\n"
      "                        Password for the proxy, given as password= is.\n"
      "unix-socket-path=<PATH> Connect to this socket, whatever the URL's host.\n"
      "tcp-keepalive=true      Let the system find dead connections.\n"
      "tcp-nodelay=false       Let the system join small packets (Nagle's algorithm).";

  bool config(const std::string &key, const std::string &value) {
    return set_request(key, value) || set_connection(key, value) || set_tls(key, value) ||
           set_secret(key, value) || set_script(key, value) || set_cookies(key, value);
  }

  void config_complete() {
    client_.environment = Environment::copied();
    if (file_.target.url.empty())
      refuse("the parameter url= is missing: give the URL of a file");
    const http::Library *const library = http::library();
    if (library == nullptr)
      throw nbdkit::Reported();
    if (client_.http_version == http::CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE &&
        !library->can_reuse_prior_knowledge)
      refuse(std::string("http-version=2-prior-knowledge does not work with libcurl ") +
             library->version + ": use https: with http-version=2TLS, or libcurl 8.0 or newer");
    const std::optional<http::Url> url = http::parse_url(file_.target.url);
    if (!url)
      refuse("url=" + http::printable(file_.target.url) + ": not an http: or https: URL");
    if (!(url->origin.starts_with("https:") ? client_.allows_https : client_.allows_http))
      refuse("url=" + http::printable(file_.target.url) +
             ": protocols= does not allow it: add its scheme there");
    client_.cookie_file = cookie_file_.value_or(client_.cookie_jar);
    if (!file_.target.header_script.empty() || !file_.target.cookie_script.empty())
      file_.target.script_directory = absolute(".");
    check_script("header-script", file_.target.header_script,
                 file_.target.header_script_renew_seconds);
    check_script("cookie-script", file_.target.cookie_script,
                 file_.target.cookie_script_renew_seconds);
    if (!file_.target.header_script.empty() && !file_.target.headers.empty())
      refuse("header-script= prints the headers: do not give header= or headers= as well");
    if (!file_.target.cookie_script.empty() && !file_.target.cookie.empty())
      refuse("cookie-script= prints the cookies: do not give cookie= as well");
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
  static void check_script(const std::string &key, const std::string &script,
                           unsigned renew_seconds) {
    if (script.empty() && renew_seconds > 0)
      refuse(key + "-renew= cannot be used without " + key + "=");
  }

  bool set_request(const std::string &key, const std::string &value) {
    if (key == "url")
      file_.target.url = value;
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
      file_.target.user = value;
    else
      return false;
    return true;
  }

  bool set_connection(const std::string &key, const std::string &value) {
    if (key == "connections")
      client_.connections = count_of(key, value, 1);
    else if (key == "timeout")
      client_.silence_ms = milliseconds_of(key, value, 0);
    else if (key == "connect-timeout")
      client_.connect_timeout_ms = milliseconds_of(key, value);
    else if (key == "user-agent")
      client_.user_agent = value;
    else if (key == "proxy") {
      client_.proxy = value;
      client_.uses_proxy = !value.empty();
    } else if (key == "proxy-user")
      client_.proxy_user = value;
    else if (key == "http-version")
      client_.http_version = http_version_of(value);
    else if (key == "ipresolve")
      client_.ip_version = ip_version_of(value);
    else if (key == "resolve")
      client_.addresses.push_back(value);
    else if (key == "unix-socket-path" || key == "unix_socket_path")
      client_.unix_socket = absolute(value);
    else if (key == "tcp-keepalive")
      client_.tcp_keepalive = nbdkit::parse_bool(value);
    else if (key == "tcp-nodelay")
      client_.tcp_nodelay = nbdkit::parse_bool(value);
    else if (key == "protocols")
      set_protocols(value);
    else
      return false;
    return true;
  }

  /// Other protocols of libcurl may be named, and are ignored.
  void set_protocols(const std::string &value) {
    client_.allows_http = client_.allows_https = false;
    std::istringstream names(value);
    for (std::string name; std::getline(names, name, ',');) {
      client_.allows_http |= name == "http";
      client_.allows_https |= name == "https";
    }
    if (!client_.allows_http && !client_.allows_https)
      refuse("protocols=" + value + ": has neither http nor https: add one of them");
  }

  bool set_tls(const std::string &key, const std::string &value) {
    if (key == "cainfo") {
      client_.ca_file = value.empty() ? value : absolute(value);
      client_.uses_default_ca_file = !value.empty();
    } else if (key == "capath")
      client_.ca_directory = absolute(value);
    else if (key == "sslverify")
      client_.verifies_tls = nbdkit::parse_bool(value);
    else if (key == "ssl-version")
      client_.tls_version = tls_version_of(value);
    else if (key == "ssl-cipher-list")
      client_.tls_ciphers = value;
    else if (key == "tls13-ciphers")
      client_.tls13_ciphers = value;
    else
      return false;
    return true;
  }

  bool set_secret(const std::string &key, const std::string &value) {
    if (key == "password")
      file_.target.password = secret(value);
    else if (key == "proxy-password")
      client_.proxy_password = secret(value);
    else if (key == "header")
      file_.target.headers.push_back(header_of(key, value));
    else if (key == "headers")
      for (std::string &line : headers_of(value))
        file_.target.headers.push_back(std::move(line));
    else
      return false;
    return true;
  }

  bool set_script(const std::string &key, const std::string &value) {
    if (key == "header-script")
      file_.target.header_script = value;
    else if (key == "header-script-renew")
      file_.target.header_script_renew_seconds = seconds_of(key, value);
    else if (key == "cookie-script")
      file_.target.cookie_script = value;
    else if (key == "cookie-script-renew")
      file_.target.cookie_script_renew_seconds = seconds_of(key, value);
    else
      return false;
    return true;
  }

  bool set_cookies(const std::string &key, const std::string &value) {
    if (key == "cookie") {
      file_.target.cookie = secret(value);
      if (file_.target.cookie.find_first_of("\r\n") != std::string::npos)
        refuse("cookie=: expected one line: NAME=VALUE; NAME=VALUE");
      return true;
    }
    if ((key == "cookiefile" || key == "cookiejar") && value == "-")
      refuse(key + "=-: cookies cannot be read from standard input or printed: use a file");
    if (key == "cookiefile")
      cookie_file_ = value.empty() ? value : absolute(value);
    else if (key == "cookiejar")
      client_.cookie_jar = absolute(value);
    else
      return false;
    client_.keeps_cookies = true;
    return true;
  }

  http::FileSettings file_;
  http::Settings client_;
  std::optional<std::string> cookie_file_; // if not given, the jar
  std::unique_ptr<http::File> served_;
};

} // namespace

NBDKIT_ASYNC_PLUGIN(Http, "http")
