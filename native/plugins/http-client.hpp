// One HTTP client for plugins whose disks are on web servers and object stores: any number of
// requests in flight over kept connections, on one thread, by libcurl's multi interface.
//
// A request goes in by submit(), on any thread, and comes back by its `done`, once, on the client's
// thread: that one must not block, and may submit others. Answers that are given to NBD clients
// inside of `done` leave in batches. What a server sends is bounded: a body by the room it has, an
// error's document and headers by limits here, silence by `silence_ms`, everything by the deadline.
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

namespace http {

using Clock = std::chrono::steady_clock;

/// The same for all requests of a client. Paths are absolute. Empty: as libcurl has it.
struct Settings {
  unsigned connections = 64; // and so many requests at once; others wait their turn
  std::string user_agent = "asyncnbd";
  std::string ca_file; // PEM, instead of the system's certificates
  std::string ca_directory;
  bool verifies_tls = true; // the certificate and the name in it
  std::string proxy;        // "" with `uses_proxy` = what the environment says
  std::string proxy_user;
  std::string proxy_password;
  bool uses_proxy = true;
  std::string unix_socket; // connect there, whatever the URL's host
  bool tcp_keepalive = false;
  unsigned connect_timeout_ms = 10'000;
  /// An attempt in which less than a KiB a second was sent and received for as long fails.
  unsigned silence_ms = 30'000;
};

enum class Method { get, head, put, post, del };

/// After which failures another attempt is made, if there are attempts and time left.
enum class Again {
  never,
  unsent, // those that the server did not act on: no connection; 429 and 503
  safely, // all passing ones: lost connections and silence too; 408, 429, 500, 502, 503, 504
};

struct Retry {
  Again again = Again::safely;
  unsigned attempts = 6;   // with the first
  unsigned delay_ms = 500; // before the second; then doubled each time, up to 10 s, ± a half
  /// From submit() on, with all attempts, waits for a connection and between attempts.
  unsigned deadline_ms = 60'000;
  /// Whether a host that is not found, or does not listen, is tried again: not at a start, where it
  /// is more likely misspelt.
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
  /// "Name: value". "Name:" leaves out one that libcurl would send. Values have no line ends.
  std::vector<std::string> headers;
  std::optional<Range> range; // becomes a Range header
  std::string user;           // Basic authentication, if there is a user or a password
  std::string password;
  std::shared_ptr<const Signature> signature; // or this
  /// Of put and post: borrowed until `done`.
  std::span<const char> body;
  /// Where the body of a 2xx goes, one after the other; borrowed until `done`. More than they hold
  /// is Failure::too_long; less is for `done` to notice, by `received`. All attempts write there.
  /// If it is empty, the body is in Response::text.
  std::vector<std::span<char>> into;
  /// The most of Response::text, of a 2xx that may not be longer, of others a beginning.
  size_t text_limit = 65'536;
  Retry retry;
  /// Called on the client's thread before each attempt: to sign, to refresh credentials, to change
  /// the URL and headers. Optional.
  std::function<void(Request &)> prepare;
  /// Called on the client's thread with each response that is no failure, before retry looks at it:
  /// true makes it a passing one, such as an S3 error in a 200. Optional.
  std::function<bool(const Response &)> is_passing;
  /// Called for each attempt after which another one will be made, to log. Optional.
  std::function<void(const Response &)> on_retry;
  std::function<void(const Response &)> done;
};

/// Why there is no complete response. Of a complete one, whatever its status: none.
enum class Failure {
  none,
  name,     // the host's name is not found
  connect,  // nobody listens there, or the network is not reached
  tls,      // the certificate, or the handshake
  silence,  // too slow, or silent
  lost,     // the connection, before all has come
  too_long, // more than was asked for, or than the limits allow
  deadline, // before the first attempt could end
  stopped,  // by stop()
  other,    // what libcurl says is in `reason`
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

/// Valid inside of `done` only; perform() returns a copy.
struct Response {
  Failure failure = Failure::none;
  int status = 0;     // of HTTP; may be set where a failure came in the body
  std::string reason; // of a failure: libcurl's words, without URL and secrets
  std::array<std::string, static_cast<size_t>(Field::count)> fields; // empty: not sent
  std::string text;
  uint64_t received = 0; // bytes of `into`
  unsigned attempts = 0;

  const std::string &field(Field name) const { return fields[static_cast<size_t>(name)]; }
  bool is_ok() const { return failure == Failure::none && status / 100 == 2; }
};

/// A sentence without its subject and without secrets, for messages: "nobody listens there", "the
/// server said 404 Not Found".
std::string explain(const Response &response);

/// Whether the certificate is one of an authority that is not trusted here, as far as the library's
/// words tell.
bool is_unknown_issuer(const Response &response);

/// The URL for messages: without user, password, query and fragment, which may be secret.
std::string printable(std::string_view url);

/// The parts of an http: or https: URL; nullopt if it is none.
struct Url {
  std::string address; // without user and password
  std::string origin;  // scheme://host:port, in small letters
  std::string user;    // decoded
  std::string password;
};
std::optional<Url> parse_url(const std::string &url);

/// Where a Location leads from `base`; nullopt if not to an http: or https: URL.
std::optional<Url> resolve(const std::string &base, const std::string &location);

class Client {
public:
  /// Finds libcurl and starts the thread: from get_ready on, not before. Null if that cannot be;
  /// then nbdkit_error() has been told.
  static std::unique_ptr<Client> start(Settings settings);
  /// stop(), and waits for the thread.
  ~Client();
  Client(const Client &) = delete;
  Client &operator=(const Client &) = delete;

  /// Any thread. Throws std::bad_alloc, and has then not taken the request.
  void submit(Request request);
  /// Submits, and waits for the response: any thread but the client's own. `done` is ignored.
  Response perform(Request request);
  /// All requests, and those still to come, end with Failure::stopped, at once. Any thread.
  void stop();

private:
  class Loop;
  explicit Client(std::unique_ptr<Loop> loop);
  std::unique_ptr<Loop> loop_;
};

/// Whether the libcurl that was found makes signatures. After start().
bool can_sign();

} // namespace http

#endif
