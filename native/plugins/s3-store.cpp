// See s3-store.hpp.
#include "s3-store.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "http-library.hpp"
#include "s3-md5.hpp"
#include "s3-xml.hpp"
#include "warning.hpp"

namespace s3 {

std::string encoded(std::string_view text, std::string_view kept) {
  static constexpr char DIGITS[] = "0123456789ABCDEF";
  std::string result;
  result.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                          (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_' || c == '~' ||
                          kept.find(c) != std::string_view::npos;
    if (is_plain) {
      result += c;
    } else {
      result += '%';
      result += DIGITS[byte >> 4];
      result += DIGITS[byte & 15];
    }
  }
  return result;
}

// ---- opening ------------------------------------------------------------------------------------

std::unique_ptr<Store> Store::open(const Settings &settings) {
  if (http::library() == nullptr) // set_origin() needs it, too, to parse URLs
    return nullptr;
  std::unique_ptr<Store> store(new Store(settings));
  if (!store->set_origin())
    return nullptr;
  store->client_ = http::Client::start(settings.http);
  if (store->client_ == nullptr)
    return nullptr;
  if (!settings.is_anonymous && !http::can_sign()) {
    nbdkit_error("this libcurl cannot sign requests to S3: use version 7.75 or newer");
    return nullptr;
  }
  return store->credentials_.start() ? std::move(store) : nullptr;
}

bool Store::set_origin() {
  std::string endpoint = settings_.endpoint_url;
  const bool is_amazon = endpoint.empty();
  if (is_amazon)
    endpoint = "https://s3." + settings_.region + ".amazonaws.com" +
               (settings_.region.starts_with("cn-") ? ".cn" : "");
  const std::optional<http::Url> url = http::parse_url(endpoint);
  if (!url || !url->user.empty() || !url->password.empty() ||
      endpoint.find_first_of("?#") != std::string::npos) {
    nbdkit_error("endpoint-url=%s: use http://HOST[:PORT] or https://HOST[:PORT]; give keys by "
                 "access-key= and secret-key=",
                 http::printable(endpoint).c_str());
    return false;
  }
  while (endpoint.ends_with('/'))
    endpoint.pop_back();
  // A certificate for *.s3.… does not cover a bucket with a dot in its name.
  const bool in_path =
      settings_.path_style.value_or(!is_amazon || settings_.bucket.find('.') != std::string::npos);
  if (in_path) {
    bucket_url_ = endpoint + "/" + encoded(settings_.bucket, "");
  } else {
    if (settings_.bucket.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") !=
        std::string::npos) {
      nbdkit_error("bucket=%s: cannot be a part of a host's name; use path-style=true",
                   settings_.bucket.c_str());
      return false;
    }
    const size_t host = endpoint.find("//") + 2;
    bucket_url_ = endpoint.substr(0, host) + settings_.bucket + "." + endpoint.substr(host);
  }
  origin_ = bucket_url_ + "/";
  server_ = origin_.substr(0, origin_.find('/', origin_.find("//") + 2));
  if (!in_path)
    bucket_url_ = origin_;
  return true;
}

void Store::stop() {
  credentials_.stop();
  if (client_ != nullptr)
    client_->stop();
}

// ---- requests -----------------------------------------------------------------------------------

namespace {

constexpr std::string_view TOKEN_HEADER = "x-amz-security-token: ";
constexpr unsigned ATTEMPTS_AT_START = 4; // over about 4 s
// At most one outage is logged in this time: a line when it begins, and one when it ends.
constexpr std::chrono::seconds BETWEEN_OUTAGES{10};
constexpr std::chrono::seconds QUIET_TIME{1};

} // namespace

// Called before each attempt, because keys may have been renewed since the last one.
void Store::sign(http::Request &request) const {
  const std::shared_ptr<const Signer> signer = credentials_.current();
  request.signature = signer->signature;
  std::erase_if(request.headers,
                [](const std::string &header) { return header.starts_with(TOKEN_HEADER); });
  if (!signer->token.empty())
    request.headers.push_back(std::string(TOKEN_HEADER) + signer->token);
}

// Logs one line when an outage begins and one when it ends, not one for each attempt.
void Store::take_retry(const http::Response &response) const {
  const bool is_refusal = response.failure == http::Failure::none && response.status < 500 &&
                          response.status != 408 && response.status != 429;
  if (is_refusal)
    return; // expired keys or a failed condition are not an outage
  last_retry_ = http::Clock::now();
  if (is_away_ || last_retry_ < away_since_ + BETWEEN_OUTAGES)
    return;
  is_away_ = true;
  away_since_ = last_retry_;
  warn_operator("s3: " + server_ + ": " + http::explain(response) + "; retrying");
}

/// An answer alone does not end an outage, because other requests may still fail. It ends when a
/// request that has failed before succeeds, or after a time without failures.
void Store::take_answer(const http::Response &response) const {
  if (!is_away_)
    return;
  const auto now = http::Clock::now();
  if (response.attempts < 2 && now - last_retry_ < QUIET_TIME)
    return;
  is_away_ = false;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - away_since_).count();
  warn_operator("s3: " + server_ + ": answers again, after " + std::to_string(seconds) + " s");
}

/// Whether the failure is temporary although its status is one for wrong requests.
bool Store::is_passing(const http::Response &response) const {
  if (response.status != 400 && response.status != 403 && response.status != 409)
    return false;
  const std::string code = code_of(response);
  if (code == "ExpiredToken" || code == "TokenRefreshRequired" || code == "ExpiredTokenException")
    return credentials_.renew_now();
  return code == "RequestTimeout" || code == "ConditionalRequestConflict" ||
         code == "OperationAborted";
}

http::Request Store::object(http::Method method, std::string_view key) const {
  http::Request request;
  request.method = method;
  request.url = origin_ + encoded(key, "/");
  request.retry = settings_.retry;
  request.retry.again = http::Again::safely;
  if (is_starting_.load(std::memory_order_acquire))
    request.retry.attempts = std::min(request.retry.attempts, ATTEMPTS_AT_START);
  // Always sent, because libcurl before version 8 does not send the digest of the body that it has
  // signed. A digest would take more processor time than the rest of a PUT; TLS protects the body.
  if (!settings_.is_anonymous)
    request.headers.emplace_back("x-amz-content-sha256: UNSIGNED-PAYLOAD");
  request.prepare = [this](http::Request &attempt) { sign(attempt); };
  request.is_passing = [this](const http::Response &response) {
    const bool passes = is_passing(response);
    if (!passes)
      take_answer(response);
    return passes;
  };
  request.on_retry = [this](const http::Response &response) { take_retry(response); };
  return request;
}

http::Request Store::put(std::string_view key, std::span<const char> body) const {
  http::Request request = object(http::Method::put, key);
  request.body = body;
  request.headers.emplace_back("Content-Type: application/octet-stream");
  if (!settings_.sse.empty())
    request.headers.push_back("x-amz-server-side-encryption: " + settings_.sse);
  if (!settings_.sse_kms_key_id.empty())
    request.headers.push_back("x-amz-server-side-encryption-aws-kms-key-id: " +
                              settings_.sse_kms_key_id);
  return request;
}

http::Request Store::remove(std::string_view document) const {
  http::Request request = object(http::Method::post, "");
  request.url = bucket_url_ + "?delete="; // without the "=", libcurl would sign another URL
  request.body = document;
  request.headers.emplace_back("Content-Type: application/xml");
  request.headers.push_back("Content-MD5: " + content_md5(document)); // stores require it
  request.text_limit = 4 << 20; // names of up to 1 KiB, each with its result
  return request;
}

// The parameters must be in the order in which they are signed.
http::Request Store::list(std::string_view prefix, std::string_view after, unsigned most) const {
  http::Request request = object(http::Method::get, "");
  request.url = bucket_url_ + "?list-type=2&max-keys=" + std::to_string(most) +
                "&prefix=" + encoded(prefix, "");
  if (!after.empty())
    request.url += "&start-after=" + encoded(after, "");
  request.text_limit = 4 << 20; // 1000 names of 1 KiB, with their other fields
  return request;
}

// ---- errors -------------------------------------------------------------------------------------

std::string Store::code_of(const http::Response &response) {
  return response.failure == http::Failure::none && response.status >= 300
             ? text_of(response.text, "Code")
             : "";
}

namespace {

/// How wrong this machine's clock is: "20 minutes behind".
std::string clock_difference(const std::string &date) {
  std::tm parts{};
  if (strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts) == nullptr)
    return "wrong";
  const long seconds = static_cast<long>(timegm(&parts) - time(nullptr));
  const long size = labs(seconds);
  return (size < 120 ? std::to_string(size) + " seconds"
                     : std::to_string((size + 30) / 60) + " minutes") +
         (seconds > 0 ? " behind" : " ahead");
}

int error_of(const http::Response &response, const std::string &code) {
  if (response.failure != http::Failure::none)
    return EIO;
  if (code == "QuotaExceeded" || code == "StorageFull" || response.status == 507)
    return ENOSPC;
  if (response.status == 403)
    return EACCES;
  return EIO;
}

/// The bucket's region, if the store names another than `region`; else "".
std::string other_region(const http::Response &response, const std::string &region) {
  std::string named = response.field(http::Field::bucket_region);
  if (named.empty())
    named = text_of(response.text, "Region");
  return named == region ? "" : named;
}

/// The meaning of a code that says it all; else "".
std::string meaning_of(const std::string &code) {
  struct Meaning {
    std::string_view code;
    const char *text;
  };
  static constexpr Meaning MEANINGS[] = {
      {"InvalidAccessKeyId", "the store does not know the access key"},
      {"SignatureDoesNotMatch", "the secret key does not belong to the access key"},
      {"ExpiredToken", "the session token has expired: get new keys"},
      {"TokenRefreshRequired", "the session token has expired: get new keys"},
      {"InvalidToken", "the session token is not valid"},
      {"InvalidClientTokenId", "the session token is not valid"},
      {"QuotaExceeded", "the store's quota is used up"},
  };
  const auto *const found = std::find_if(std::begin(MEANINGS), std::end(MEANINGS),
                                         [&](const Meaning &one) { return one.code == code; });
  return found == std::end(MEANINGS) ? "" : found->text;
}

/// For other codes: the status, the code, and the store's own text.
std::string words_of(const http::Response &response, const std::string &code) {
  const std::string said = text_of(response.text, "Message");
  std::string words = http::explain(response);
  if (!code.empty())
    words += ", " + code;
  // Some stores repeat in it what they were sent, which must not be logged.
  if (!said.empty() && said.size() < 200 && code != "AuthorizationHeaderMalformed")
    words += ": " + said;
  return words;
}

} // namespace

std::string Store::meaning(const http::Response &response, const std::string &code,
                           const std::string &key) const {
  if (response.failure != http::Failure::none) {
    const bool may_be_trusted = settings_.http.verifies_tls && http::is_unknown_issuer(response);
    return server_ + ": " + http::explain(response) +
           (may_be_trusted ? "; give the certificates to trust with cainfo=" : "");
  }
  const std::string region = other_region(response, settings_.region);
  if (!region.empty() && response.status != 404)
    return "the bucket is in the region " + region + ": give region=" + region;
  if (code == "PermanentRedirect" || code == "TemporaryRedirect" || response.status / 100 == 3)
    return "the bucket is at another endpoint: give region= or endpoint-url=";
  if (std::string meaning = meaning_of(code); !meaning.empty())
    return meaning;
  if (code == "RequestTimeTooSkewed")
    return "this machine's clock is " + clock_difference(response.field(http::Field::date)) +
           ": set it";
  if (code == "NoSuchBucket")
    return "there is no bucket \"" + settings_.bucket + "\"";
  if (code == "NoSuchKey" && !key.empty())
    return "there is no object \"" + key + "\" in the bucket \"" + settings_.bucket + "\"";
  if (code == "AccessDenied" || (code.empty() && response.status == 403))
    return settings_.is_anonymous ? "the store does not allow it without keys"
                                  : "the store does not allow it with these keys";
  return words_of(response, code);
}

Problem Store::problem(const http::Response &response, const std::string &what,
                       const std::string &key) const {
  const std::string code = code_of(response);
  return {error_of(response, code), what + ": " + meaning(response, code, key)};
}

} // namespace s3
