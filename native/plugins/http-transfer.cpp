// See http-transfer.hpp; http-response.cpp takes what the server answers.
#include "http-transfer.hpp"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <new>

namespace http {

namespace {

constexpr long BUFFER_BYTES = 65'536;
constexpr uint64_t LEAST_BYTES_A_SECOND = 1024;

} // namespace

Transfer::Transfer(const Library &library, const Settings &settings, CURLSH *cookies, void *sockets,
                   int (*open)(void *, int, curl_sockaddr *), int (*close)(void *, int))
    : library_(library), settings_(settings), easy_(library.curl_easy_init()) {
  if (easy_ == nullptr)
    return;
  words_[0] = '\0';
  set(CURLOPT_NOSIGNAL, 1);
  set(CURLOPT_QUICK_EXIT, 1); // older versions do not know it, and wait for name lookups
  set_protocol(settings);
  set_tls(settings);
  set_proxy();
  set_functions(sockets, open, close);
  if (cookies == nullptr)
    return;
  library_.curl_easy_setopt(easy_, CURLOPT_SHARE, cookies);
  set(CURLOPT_COOKIEFILE, ""); // turns cookies on: they are sent and kept
}

void Transfer::set_protocol(const Settings &settings) {
  set(CURLOPT_PROTOCOLS,
      (settings.allows_http ? CURLPROTO_HTTP : 0) | (settings.allows_https ? CURLPROTO_HTTPS : 0));
  set(CURLOPT_HTTP_VERSION, settings.http_version);
  set(CURLOPT_IPRESOLVE, settings.ip_version);
  for (const std::string &address : settings.addresses)
    addresses_ = library_.curl_slist_append(addresses_, address.c_str());
  if (addresses_ != nullptr)
    library_.curl_easy_setopt(easy_, CURLOPT_RESOLVE, addresses_);
  set(CURLOPT_PATH_AS_IS, 1);            // an object's name may contain /../
  set(CURLOPT_EXPECT_100_TIMEOUT_MS, 1); // see set_headers()
  set(CURLOPT_BUFFERSIZE, BUFFER_BYTES);
  set(CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
  set(CURLOPT_CONNECTTIMEOUT_MS, settings.connect_timeout_ms);
  set(CURLOPT_TCP_KEEPALIVE, settings.tcp_keepalive ? 1 : 0);
  set(CURLOPT_TCP_NODELAY, settings.tcp_nodelay ? 1 : 0);
  set_if_any(CURLOPT_USERAGENT, settings.user_agent);
  set_if_any(CURLOPT_UNIX_SOCKET_PATH, settings.unix_socket);
}

void Transfer::set_tls(const Settings &settings) {
  set(CURLOPT_SSL_VERIFYPEER, settings.verifies_tls ? 1 : 0);
  set(CURLOPT_SSL_VERIFYHOST, settings.verifies_tls ? 2 : 0);
  set(CURLOPT_SSLVERSION, settings.tls_version);
  set_if_any(CURLOPT_SSL_CIPHER_LIST, settings.tls_ciphers);
  set_if_any(CURLOPT_TLS13_CIPHERS, settings.tls13_ciphers);
  if (!settings.uses_default_ca_file)
    set(CURLOPT_CAINFO, nullptr);
  set_if_any(CURLOPT_CAINFO, settings.ca_file);
  set_if_any(CURLOPT_CAPATH, settings.ca_directory);
}

// What is not set here, if only to nothing, libcurl reads from the environment, on this thread.
void Transfer::set_proxy() {
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1);
  set(CURLOPT_PROXY, settings_.proxy.c_str());
  set(CURLOPT_NOPROXY, settings_.environment.first_of("no_proxy", "NO_PROXY").c_str());
  set_if_any(CURLOPT_PROXYUSERNAME, settings_.proxy_user);
  set_if_any(CURLOPT_PROXYPASSWORD, settings_.proxy_password);
}

/// Where no proxy is given: the environment's for this URL, by libcurl's own rules. HTTP_PROXY does
/// not count, because CGI programs get it from their clients.
void Transfer::choose_proxy() {
  if (!settings_.uses_proxy || !settings_.proxy.empty() || !settings_.unix_socket.empty())
    return;
  const Environment &environment = settings_.environment;
  const bool is_https = url_.size() > 5 && is_same_name(url_.substr(0, 6), "https:");
  const std::string proxy =
      is_https ? environment.first_of("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
               : environment.first_of("http_proxy", "all_proxy", "ALL_PROXY");
  if (proxy_ != proxy)
    set(CURLOPT_PROXY, (proxy_ = proxy).c_str());
}

void Transfer::set_functions(void *sockets, int (*open)(void *, int, curl_sockaddr *),
                             int (*close)(void *, int)) {
  library_.curl_easy_setopt(easy_, CURLOPT_PRIVATE, this);
  library_.curl_easy_setopt(easy_, CURLOPT_ERRORBUFFER, words_);
  library_.curl_easy_setopt(easy_, CURLOPT_HEADERFUNCTION, on_header);
  library_.curl_easy_setopt(easy_, CURLOPT_HEADERDATA, this);
  library_.curl_easy_setopt(easy_, CURLOPT_WRITEFUNCTION, on_body);
  library_.curl_easy_setopt(easy_, CURLOPT_WRITEDATA, this);
  library_.curl_easy_setopt(easy_, CURLOPT_OPENSOCKETFUNCTION, open);
  library_.curl_easy_setopt(easy_, CURLOPT_OPENSOCKETDATA, sockets);
  library_.curl_easy_setopt(easy_, CURLOPT_CLOSESOCKETFUNCTION, close);
  library_.curl_easy_setopt(easy_, CURLOPT_CLOSESOCKETDATA, sockets);
}

void Transfer::keep_cookie_files(const Settings &settings) {
  set_if_any(CURLOPT_COOKIEFILE, settings.cookie_file);
  set_if_any(CURLOPT_COOKIEJAR, settings.cookie_jar);
}

Transfer::~Transfer() {
  if (easy_ != nullptr)
    library_.curl_easy_cleanup(easy_);
  library_.curl_slist_free_all(headers_);
  library_.curl_slist_free_all(addresses_);
}

void Transfer::set_if_any(int option, const std::string &text) {
  if (!text.empty())
    set(option, text.c_str());
}

// ---- an attempt ---------------------------------------------------------------------------------

void Transfer::begin(std::unique_ptr<Job> job, Clock::time_point now) {
  job_ = std::move(job);
  const Request &request = job_->request;
  Response &response = job_->response;
  response.failure = Failure::none;
  response.status = 0;
  response.reason.clear();
  response.text.clear();
  response.received = 0;
  response.attempts++;
  given_up_ = Failure::none;
  is_text_full_ = has_broken_handshake_ = false;
  header_bytes_ = piece_ = piece_bytes_ = 0;
  moved_bytes_ = watched_from_ = 0;
  watched_since_ = now;
  words_[0] = '\0';
  if (url_ != request.url) {
    set(CURLOPT_URL, (url_ = request.url).c_str());
    choose_proxy();
  }
  if (cookie_ != request.cookie)
    set(CURLOPT_COOKIE, (cookie_ = request.cookie).empty() ? nullptr : cookie_.c_str());
  set_method();
  if (request.range) {
    char text[48];
    snprintf(text, sizeof text, "%" PRIu64 "-%" PRIu64, request.range->offset,
             request.range->offset + request.range->count - 1);
    set(CURLOPT_RANGE, text);
  } else if (has_range_) {
    set(CURLOPT_RANGE, nullptr);
  }
  has_range_ = request.range.has_value();
  set_credentials();
  set_headers();
}

void Transfer::set_method() {
  const Request &request = job_->request;
  const bool has_body = request.method == Method::put || request.method == Method::post;
  if (method_ != request.method) {
    method_ = request.method;
    set(CURLOPT_NOBODY, 0L);
    if (has_body) {
      set(CURLOPT_POST, 1);
    } else {
      set(CURLOPT_POSTFIELDS, nullptr); // this sets POST, until the next setting
      set(CURLOPT_HTTPGET, 1);
    }
    if (method_ == Method::head)
      set(CURLOPT_NOBODY, 1);
    set(CURLOPT_CUSTOMREQUEST, method_ == Method::put   ? "PUT"
                               : method_ == Method::del ? "DELETE"
                                                        : nullptr);
  }
  if (!has_body)
    return;
  library_.curl_easy_setopt(easy_, CURLOPT_POSTFIELDSIZE_LARGE,
                            static_cast<int64_t>(request.body.size()));
  // Not copied; null would make libcurl ask for the data.
  set(CURLOPT_POSTFIELDS, request.body.data() == nullptr ? "" : request.body.data());
}

void Transfer::set_credentials() {
  const Request &request = job_->request;
  const Signature *const signature = request.signature.get();
  const std::string &provider = signature == nullptr ? std::string() : signature->provider;
  const std::string &user = signature == nullptr ? request.user : signature->key_id;
  const std::string &password = signature == nullptr ? request.password : signature->secret;
  const bool is_basic = !user.empty() || !password.empty();
  if (user_ != user || password_ != password) {
    user_ = user;
    password_ = password;
    set(CURLOPT_USERNAME, is_basic ? user_.c_str() : nullptr);
    set(CURLOPT_PASSWORD, is_basic ? password_.c_str() : nullptr);
  }
  if (provider_ != provider) {
    provider_ = provider;
    set(CURLOPT_AWS_SIGV4, provider_.empty() ? nullptr : provider_.c_str());
    if (provider_.empty())
      set(CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
  }
}

void Transfer::set_headers() {
  library_.curl_slist_free_all(headers_);
  headers_ = nullptr;
  bool is_ok = true;
  const auto add = [&](const char *line) {
    curl_slist *const longer = library_.curl_slist_append(headers_, line);
    is_ok = is_ok && longer != nullptr;
    if (longer != nullptr)
      headers_ = longer;
  };
  // The body is sent without waiting, and is not a form. With a signature, a removed header would
  // still be signed (libcurl 7.88).
  if (!job_->request.body.empty() && job_->request.signature == nullptr)
    add("Expect:");
  const std::vector<std::string> &lines = job_->request.headers;
  const bool has_type = std::any_of(lines.begin(), lines.end(), [](std::string_view line) {
    return is_same_name(line.substr(0, line.find(':')), "content-type");
  });
  if ((method_ == Method::put || method_ == Method::post) && !has_type)
    add("Content-Type: application/octet-stream");
  for (const std::string &line : lines)
    add(line.c_str());
  if (!is_ok)
    throw std::bad_alloc();
  library_.curl_easy_setopt(easy_, CURLOPT_HTTPHEADER, headers_);
}

std::unique_ptr<Job> Transfer::end(int code) {
  Response &response = job_->response;
  response.failure = given_up_ != Failure::none ? given_up_ : failure_of(code);
  if (response.failure == Failure::none)
    return std::move(job_);
  switch (response.failure) {
  case Failure::tls:
  case Failure::reset:
  case Failure::other:
    response.reason = words_of(code);
    break;
  case Failure::connect:
  case Failure::lost:
    response.reason = code == CURLE_HTTP2 ? words_of(code) : reason_of_loss(code);
    break;
  default:
    break;
  }
  return std::move(job_);
}

// libcurl's own words contain at most hosts and ports.
std::string Transfer::words_of(int code) const {
  return words_[0] != '\0' ? words_ : library_.curl_easy_strerror(code);
}

std::string Transfer::reason_of_loss(int code) const {
  long number = 0;
  library_.curl_easy_getinfo(easy_, CURLINFO_OS_ERRNO, &number);
  if (number > 0)
    return strerror(static_cast<int>(number));
  return code == CURLE_OPERATION_TIMEDOUT ? "no answer in time"
         : code == CURLE_PARTIAL_FILE     ? "only a part arrived"
                                          : "";
}

Failure Transfer::failure_of(int code) {
  switch (code) {
  case CURLE_OK:
    return Failure::none;
  case CURLE_COULDNT_RESOLVE_HOST:
  case CURLE_COULDNT_RESOLVE_PROXY:
    return Failure::name;
  case CURLE_COULDNT_CONNECT:
  case CURLE_OPERATION_TIMEDOUT: // we give libcurl only a time limit for connecting
  case CURLE_PROXY:
    return Failure::connect;
  case CURLE_SSL_CONNECT_ERROR:
    has_broken_handshake_ = true;
    return Failure::tls;
  case CURLE_SSL_CERTPROBLEM:
  case CURLE_SSL_CIPHER:
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CACERT_BADFILE:
  case CURLE_SSL_ISSUER_ERROR:
    return Failure::tls;
  case CURLE_PARTIAL_FILE:
  case CURLE_GOT_NOTHING:
  case CURLE_SEND_ERROR:
  case CURLE_RECV_ERROR:
  case CURLE_HTTP2:
    return Failure::lost;
  case CURLE_HTTP2_STREAM:
    return Failure::reset;
  case CURLE_WRITE_ERROR: // on_header or on_body refused more
    return is_text_full_ ? Failure::none : Failure::too_long;
  default:
    return Failure::other;
  }
}

bool Transfer::is_silent(Clock::time_point now, unsigned silence_ms) {
  const auto watched_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now - watched_since_).count();
  if (watched_ms < static_cast<int64_t>(silence_ms))
    return false;
  int64_t sent = 0;
  library_.curl_easy_getinfo(easy_, CURLINFO_SIZE_UPLOAD_T, &sent);
  const uint64_t moved = moved_bytes_ + static_cast<uint64_t>(sent);
  if (moved - watched_from_ < LEAST_BYTES_A_SECOND * static_cast<uint64_t>(watched_ms) / 1000)
    return true;
  watched_from_ = moved;
  watched_since_ = now;
  return false;
}

} // namespace http
