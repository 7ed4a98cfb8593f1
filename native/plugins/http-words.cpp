// The functions of http-client.hpp for URLs and messages: nothing here uses the network.
#include "http-client.hpp"

#include <algorithm>

#include "http-library.hpp"

namespace http {

namespace {

struct Phrase {
  int status;
  const char *words;
};

// Our own phrases, because a server may send anything.
constexpr Phrase PHRASES[] = {
    {301, "Moved Permanently"},
    {302, "Found"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {412, "Precondition Failed"},
    {416, "Range Not Satisfiable"},
    {429, "Too Many Requests"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
};

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

/// A URL object of libcurl.
class Parts {
public:
  explicit Parts(const Library &library) : library_(library), url_(library.curl_url()) {}
  ~Parts() { library_.curl_url_cleanup(url_); }
  Parts(const Parts &) = delete;
  Parts &operator=(const Parts &) = delete;

  /// Sets a part; a URL is resolved against the present one.
  bool set(int part, const char *text) {
    return url_ != nullptr && library_.curl_url_set(url_, part, text, 0) == 0;
  }

  std::string get(int part, unsigned flags = 0) const {
    char *text = nullptr;
    if (library_.curl_url_get(url_, part, &text, flags) != 0 || text == nullptr)
      return {};
    std::string copy = text;
    library_.curl_free(text);
    return copy;
  }

private:
  const Library &library_;
  CURLU *url_;
};

std::optional<Url> taken_apart(Parts &parts) {
  const std::string scheme = parts.get(CURLUPART_SCHEME);
  std::string host = parts.get(CURLUPART_HOST);
  if ((scheme != "http" && scheme != "https") || host.empty())
    return std::nullopt;
  Url url;
  url.user = parts.get(CURLUPART_USER, CURLU_URLDECODE);
  url.password = parts.get(CURLUPART_PASSWORD, CURLU_URLDECODE);
  std::transform(host.begin(), host.end(), host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  url.origin = scheme + "://" + host + ":" + parts.get(CURLUPART_PORT, CURLU_DEFAULT_PORT);
  parts.set(CURLUPART_USER, nullptr);
  parts.set(CURLUPART_PASSWORD, nullptr);
  parts.set(CURLUPART_FRAGMENT, nullptr);
  url.address = parts.get(CURLUPART_URL);
  return url.address.empty() ? std::nullopt : std::optional(url);
}

} // namespace

bool is_same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == y; });
}

std::optional<Url> parse_url(const std::string &url) {
  const Library *const found = library();
  if (found == nullptr || url.find('\0') != std::string::npos)
    return std::nullopt;
  Parts parts(*found);
  return parts.set(CURLUPART_URL, url.c_str()) ? taken_apart(parts) : std::nullopt;
}

std::optional<Url> resolve(const std::string &base, const std::string &location) {
  const Library *const found = library();
  if (found == nullptr)
    return std::nullopt;
  Parts parts(*found);
  const bool is_set =
      parts.set(CURLUPART_URL, base.c_str()) && parts.set(CURLUPART_URL, location.c_str());
  return is_set ? taken_apart(parts) : std::nullopt;
}

std::string printable(std::string_view url) {
  std::string_view rest = url.substr(0, url.find_first_of("?#"));
  const size_t scheme = rest.find("://");
  const size_t host = scheme == std::string_view::npos ? 0 : scheme + 3;
  const size_t at = rest.substr(0, rest.find('/', host)).rfind('@');
  std::string shown(rest.substr(0, host));
  shown += rest.substr(at == std::string_view::npos ? host : at + 1);
  // It may come from a server.
  for (char &c : shown)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      c = '?';
  return shown;
}

std::string explain(const Response &response) {
  const std::string reason = response.reason.empty() ? "" : ": " + response.reason;
  switch (response.failure) {
  case Failure::none:
    break;
  case Failure::name:
    return "there is no such host";
  case Failure::connect:
    return "cannot connect" + reason;
  case Failure::tls:
    return "cannot make a secure connection" + reason;
  case Failure::silence:
    return "the server does not answer in time";
  case Failure::lost:
    return "the connection was lost" + reason;
  case Failure::reset:
    return "the server broke off its response" + reason;
  case Failure::too_long:
    return "the server sent more data than requested";
  case Failure::deadline:
    return "the server has not answered by the deadline";
  case Failure::stopped:
    return "this server is stopping";
  case Failure::other:
    return "the request failed" + reason;
  }
  const auto *const phrase =
      std::find_if(std::begin(PHRASES), std::end(PHRASES),
                   [&](const Phrase &one) { return one.status == response.status; });
  std::string words = "the server said " + std::to_string(response.status);
  if (phrase != std::end(PHRASES))
    words += std::string(" ") + phrase->words;
  return words;
}

bool is_unknown_issuer(const Response &response) {
  if (response.failure != Failure::tls)
    return false;
  // The messages of OpenSSL 1 and 3, GnuTLS, and NSS.
  static constexpr const char *WORDS[] = {"issuer", "self signed", "self-signed",
                                          "certificate verification failed"};
  return std::any_of(std::begin(WORDS), std::end(WORDS), [&](const char *words) {
    return response.reason.find(words) != std::string::npos;
  });
}

bool can_sign() {
  const Library *const found = library();
  return found != nullptr && found->can_sign;
}

} // namespace http
