// An HTTP client for plugins whose disks are on web servers and object stores: any number of
// requests in flight over connections that are kept open, on one thread, by libcurl's multi
// interface. submit() takes a request on any thread; its `done` is called once, on the client's
// thread. `done` must not block, and may submit other requests. Replies that it gives to NBD
// clients are sent in batches. Nothing that a server does is unlimited: a body is limited by its
// buffer, an error document and headers by limits here, silence by `silence_ms`, everything by the
// deadline.
#ifndef ASYNCNBD_HTTP_CLIENT_HPP
#define ASYNCNBD_HTTP_CLIENT_HPP

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "environment.hpp"

namespace http {

using Clock = std::chrono::steady_clock;

/// Shared by all requests of a client. Paths are absolute. An empty string: libcurl's default.
struct Settings {
  Environment environment;   // for certificates and proxies; the process's own is not read
  unsigned connections = 64; // also the number of requests at once; others wait
  std::string user_agent = "asyncnbd";
  std::string ca_file; // PEM, instead of the system's certificates
  std::string ca_directory;
  bool uses_default_ca_file = true; // if none is given: the environment's or libcurl's
  bool verifies_tls = true;         // checks the certificate and the name in it
  std::string proxy;                // "" with `uses_proxy`: the environment's
  std::string proxy_user;
  std::string proxy_password;
  bool uses_proxy = true;
  /// CURL_HTTP_VERSION_…. By default 1.1: with HTTP/2, the requests of one connection wait for each
  /// other's data.
  int http_version = 2;
  int ip_version = 0;                 // CURL_IPRESOLVE_…; 0: any
  std::vector<std::string> addresses; // of hosts, as CURLOPT_RESOLVE takes them
  std::string unix_socket;            // connect there, whatever the URL's host
  bool tcp_keepalive = false;
  bool tcp_nodelay = true;
  bool allows_http = true; // URLs of that scheme
  bool allows_https = true;
  int tls_version = 0; // CURL_SSLVERSION_…
  std::string tls_ciphers;
  std::string tls13_ciphers;
  /// Cookies that servers set are sent back to them, over all connections.
  bool keeps_cookies = false;
  std::string cookie_file; // read at the start
  std::string cookie_jar;  // written at the end
  unsigned connect_timeout_ms = 10'000;
  /// An attempt fails if less than 1 KiB a second was sent and received for this long; 0: never.
  unsigned silence_ms = 30'000;
};

enum class Method { get, head, put, post, del };

/// After which failures to try again, if attempts and time are left.
enum class Again {
  never,
  unsent, // if the server did not act on the request: no connection; 429 and 503
  safely, // all temporary ones: lost connections and silence too; 408, 429, 500, 502, 503, 504
};

struct Retry {
  Again again = Again::safely;
  unsigned attempts = 6;   // including the first
  unsigned delay_ms = 500; // before the second; then doubled each time, up to 10 s, ± a half
  /// From submit() on, including all attempts, the pauses between them, and waits for a connection.
  unsigned deadline_ms = 60'000;
  /// Whether to retry a host that is not found or does not listen: not at the start, when its name
  /// is probably misspelt.
  bool tries_unreached = true;
};

/// AWS Signature Version 4, made by libcurl for each attempt (7.75 or newer; can_sign()).
struct Signature {
  std::string provider; // as CURLOPT_AWS_SIGV4 takes it: "aws:amz:REGION:s3"
  std::string key_id;
  std::string secret;
};

struct Range {
  uint64_t offset;
  uint64_t count;
};

class Client;
struct Response;

struct Request {
  Method method = Method::get;
  std::string url; // complete and encoded
  /// "Name: value". "Name:" removes a header that libcurl would send. Values have no line ends.
  std::vector<std::string> headers;
  std::string cookie;         // sent with the cookies that are kept
  std::optional<Range> range; // becomes a Range header
  std::string user;           // Basic authentication, if there is a user or a password
  std::string password;
  std::shared_ptr<const Signature> signature; // instead of user and password
  /// For put and post: borrowed until `done`.
  std::span<const char> body;
  /// Buffers for the body of a 2xx, filled in turn; borrowed until `done`. More than they hold is
  /// Failure::too_long; `done` must check `received` for less. All attempts write there. If it is
  /// empty, the body is in Response::text.
  std::vector<std::span<char>> into;
  /// The limit of Response::text: a 2xx must not be longer; others are cut off.
  size_t text_limit = 65'536;
  Retry retry;
  /// Called on the client's thread before each attempt: to sign, to refresh credentials, to change
  /// the URL and headers. Optional.
  std::function<void(Request &)> prepare;
  /// Called on the client's thread with each response that is not a failure: true makes it a
  /// temporary failure, which may be retried, such as an S3 error in a 200. Optional.
  std::function<bool(const Response &)> is_passing;
  /// Called after each attempt that will be followed by another one, to log it. Optional.
  std::function<void(const Response &)> on_retry;
  std::function<void(const Response &)> done;
};

/// Why there is no complete response. `none` for a complete one with any status.
enum class Failure {
  none,
  name,     // the host name is not found
  connect,  // nobody listens there, or the network cannot be reached
  tls,      // the certificate, or the handshake
  silence,  // too slow, or silent
  lost,     // the connection was lost before the end
  reset,    // the server ended the response before its end, but not the connection (HTTP/2)
  too_long, // more than requested, or than the limits allow
  deadline, // passed during an attempt, or while the request waited for a connection
  stopped,  // by stop()
  other,    // `reason` has libcurl's message
};

enum class Field {
  etag,
  content_length,
  content_range,
  content_type,
  content_encoding,
  last_modified,
  retry_after,
  date,
  location,
  request_id,    // x-amz-request-id
  bucket_region, // x-amz-bucket-region
  count
};

/// Valid only inside `done`; perform() returns a copy.
struct Response {
  Failure failure = Failure::none;
  int status = 0;     // HTTP's; may be set if the failure came in the body
  std::string reason; // of a failure: libcurl's message, without URL and secrets
  std::array<std::string, static_cast<size_t>(Field::count)> fields; // empty: not sent
  std::string text;
  uint64_t received = 0; // bytes in `into`
  unsigned attempts = 0;

  const std::string &field(Field name) const { return fields[static_cast<size_t>(name)]; }
  bool is_ok() const { return failure == Failure::none && status / 100 == 2; }
};

/// A clause for messages, without secrets: "cannot connect: Connection refused", "the server said
/// 404 Not Found".
std::string explain(const Response &response);

/// Whether the certificate's authority is not trusted here, as far as the library's message tells.
bool is_unknown_issuer(const Response &response);

/// The URL for messages: without user, password, query and fragment, which may be secret.
std::string printable(std::string_view url);
/// Whether two names of fields or schemes are the same: they have no case.
bool is_same_name(std::string_view a, std::string_view b);

/// The parts of an http: or https: URL; nullopt for anything else.
struct Url {
  std::string address; // without user and password
  std::string origin;  // scheme://host:port, in lower case
  std::string user;    // decoded
  std::string password;
};
std::optional<Url> parse_url(const std::string &url);

/// The target of a Location from `base`; nullopt if it is not an http: or https: URL.
std::optional<Url> resolve(const std::string &base, const std::string &location);

class Client {
public:
  /// Finds libcurl and starts the thread. Not before get_ready. Null if that fails, after
  /// nbdkit_error().
  static std::unique_ptr<Client> start(Settings settings);
  /// stop(), and waits for the thread.
  ~Client();
  Client(const Client &) = delete;
  Client &operator=(const Client &) = delete;

  /// Any thread. If it throws std::bad_alloc, it has not taken the request.
  void submit(Request request);
  /// Submits, and waits for the response: any thread but the client's own. `done` is ignored.
  Response perform(Request request);
  /// Runs `work` once on the client's thread, soon. Any thread. If it throws std::bad_alloc, `work`
  /// will not run.
  void call(std::function<void()> work);
  /// Present and later requests end at once with Failure::stopped. Any thread.
  void stop();

private:
  class Loop;
  explicit Client(std::unique_ptr<Loop> loop);
  std::unique_ptr<Loop> loop_;
};

/// Whether the libcurl that was found can sign requests.
bool can_sign();

} // namespace http

#endif
