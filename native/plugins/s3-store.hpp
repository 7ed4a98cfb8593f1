// A bucket of an S3 store: URLs, signatures and headers of requests, and the meaning of errors.
#ifndef ASYNCNBD_S3_STORE_HPP
#define ASYNCNBD_S3_STORE_HPP

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "s3-credentials.hpp"
#include "s3-settings.hpp"

namespace s3 {

/// Encodes for URLs: everything except letters, digits, -._~ and `kept` becomes %XX.
std::string encoded(std::string_view text, std::string_view kept);

/// Why a request has failed.
struct Problem {
  int error;            // an errno, for clients
  std::string sentence; // what failed and why, without secrets
};

class Store {
public:
  /// Gets keys; does not contact the store yet. Null on failure, after nbdkit_error().
  static std::unique_ptr<Store> open(const Settings &settings);
  ~Store() { stop(); }
  Store(const Store &) = delete;
  Store &operator=(const Store &) = delete;

  const Settings &settings() const { return settings_; }
  const std::string &region() const { return settings_.region; }
  http::Client &client() { return *client_; }

  /// A signed request for an object of the bucket.
  http::Request object(http::Method method, std::string_view key) const;
  /// The same for a PUT of these bytes, borrowed until `done`.
  http::Request put(std::string_view key, std::span<const char> body) const;
  /// Removes the objects of a document of s3-removals.hpp, borrowed until `done`.
  http::Request remove(std::string_view document) const;
  /// Lists at most `most` objects whose names begin with `prefix` and sort after `after`.
  http::Request list(std::string_view prefix, std::string_view after, unsigned most) const;

  /// The problem with a response that is not a success. `what` is what failed, such as "cannot read
  /// the object K"; `key` is the object's.
  Problem problem(const http::Response &response, const std::string &what,
                  const std::string &key = "") const;
  /// S3's name for the error: "NoSuchKey", or "".
  static std::string code_of(const http::Response &response);
  /// Whether the object does not exist. Other 404s, such as one from a proxy, do not say so, and
  /// then the object's bytes must not be read as zeroes.
  static bool is_missing(const http::Response &response) {
    return response.failure == http::Failure::none && response.status == 404 &&
           code_of(response) == "NoSuchKey";
  }
  /// The same for a HEAD, whose answer has no document that says why. This is safe because the next
  /// request has a condition, or removes the object.
  static bool is_missing_to_head(const http::Response &response) {
    return response.failure == http::Failure::none && response.status == 404;
  }

  /// From now on requests are retried until the deadline. Before, there are only a few attempts,
  /// because the operator waits for the start.
  void has_started() { is_starting_.store(false, std::memory_order_release); }
  /// Ends all requests. Call it before anything that they refer to is destroyed.
  void stop();

private:
  explicit Store(const Settings &settings) : settings_(settings), credentials_(settings) {}
  bool set_origin();
  void sign(http::Request &request) const;
  std::string meaning(const http::Response &response, const std::string &code,
                      const std::string &key) const;
  bool is_passing(const http::Response &response) const;
  void take_retry(const http::Response &response) const;
  void take_answer(const http::Response &response) const;

  const Settings &settings_;
  mutable Credentials credentials_;
  std::string origin_; // the URL up to the key, including the slash
  std::string bucket_url_;
  std::string server_; // scheme, host and port, for messages
  std::atomic<bool> is_starting_{true};
  // For log lines about outages. Used on the client's thread.
  mutable bool is_away_ = false;
  mutable http::Clock::time_point away_since_ = http::Clock::time_point::min();
  mutable http::Clock::time_point last_retry_;
  std::unique_ptr<http::Client> client_; // last, so that it ends first
};

} // namespace s3

#endif
