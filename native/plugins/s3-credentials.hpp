// The keys with which requests are signed: finds them, and renews them before they expire.
#ifndef ASYNCNBD_S3_CREDENTIALS_HPP
#define ASYNCNBD_S3_CREDENTIALS_HPP

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <string>
#include <thread>
#include <vector>

#include "s3-settings.hpp"

namespace s3 {

struct Keys {
  std::string id;
  std::string secret;
  std::string token; // "": none
  std::optional<std::chrono::system_clock::time_point> end;
};

/// Keys, or why there are none. Neither, if the source is not configured: then the next is asked.
struct Answer {
  std::optional<Keys> keys;
  std::string problem; // a clause, without secrets
};

// ---- sources, in the order in which they are asked (s3-sources.cpp, s3-metadata.cpp) -----------

Answer keys_of_parameters(const Settings &settings);
Answer keys_of_environment(const Settings &settings);
/// Exchanges a token of an identity provider, as in Kubernetes, for keys at STS.
Answer keys_of_web_identity(const Settings &settings);
Answer keys_of_profile(const Settings &settings);
Answer keys_of_container(const Settings &settings);
Answer keys_of_machine(const Settings &settings);

/// Parses a JSON object with AccessKeyId, SecretAccessKey, Token or SessionToken, and Expiration.
/// The id is empty for anything else.
Keys parse_keys(const std::string &json);
/// Parses a time such as "2026-11-28T10:00:00Z".
std::optional<std::chrono::system_clock::time_point> parse_time(const std::string &text);

/// What the HTTP client needs to sign requests.
struct Signer {
  std::shared_ptr<const http::Signature> signature; // null: not signed
  std::string token;
};

class Credentials {
public:
  explicit Credentials(const Settings &settings) : settings_(settings) {}
  ~Credentials();
  Credentials(const Credentials &) = delete;
  Credentials &operator=(const Credentials &) = delete;

  /// Gets the first keys, and starts a thread to renew them if they may expire. False on failure,
  /// after nbdkit_error().
  bool start();
  /// May be called by any thread; never waits for a source.
  std::shared_ptr<const Signer> current() const;
  /// Call it when the store says that the present keys have expired. Whether new ones may come.
  bool renew_now();
  /// Ends renewal, and waits for one in progress.
  void stop();

private:
  using Source = Answer (*)(const Settings &);
  using TimePoint = std::chrono::system_clock::time_point;
  void use(const Keys &keys);
  void renew();
  TimePoint next_renewal(TimePoint now) const;

  const Settings &settings_;
  Source source_ = nullptr;
  mutable std::mutex mutex_; // guards everything below
  pthread_cond_t changed_ = PTHREAD_COND_INITIALIZER;
  std::shared_ptr<const Signer> signer_ = std::make_shared<Signer>();
  std::optional<TimePoint> end_;
  bool is_wanted_now_ = false;
  bool is_over_ = false;
  std::thread renewer_;
};

} // namespace s3

#endif
