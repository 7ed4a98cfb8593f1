// See s3-credentials.hpp.
#include "s3-credentials.hpp"

#include <algorithm>
#include <system_error>
#include <time.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace s3 {

using std::chrono::minutes;
using std::chrono::seconds;
using std::chrono::system_clock;

namespace {

// Keys are renewed this long before they expire, or halfway if they expire sooner than twice that.
constexpr minutes BEFORE_THE_END{10};
constexpr seconds AFTER_A_FAILURE{10};
constexpr seconds BETWEEN_RENEWALS{1};

} // namespace

Credentials::~Credentials() {
  stop();
}

void Credentials::use(const Keys &keys) {
  auto signer = std::make_shared<Signer>();
  signer->signature = std::make_shared<const http::Signature>(
      http::Signature{"aws:amz:" + settings_.region + ":s3", keys.id, keys.secret});
  signer->token = keys.token;
  std::lock_guard lock(mutex_);
  signer_ = std::move(signer);
  end_ = keys.end;
}

bool Credentials::start() {
  if (settings_.is_anonymous)
    return true;
  for (const Source source : {keys_of_parameters, keys_of_environment, keys_of_web_identity,
                              keys_of_profile, keys_of_container, keys_of_machine}) {
    if (settings_.is_profile_given && source == keys_of_environment)
      continue; // profile= has precedence over the environment
    const Answer answer = source(settings_);
    if (!answer.problem.empty()) {
      nbdkit_error("cannot get keys for the store: %s", answer.problem.c_str());
      return false;
    }
    if (!answer.keys)
      continue;
    use(*answer.keys);
    source_ = source;
    break;
  }
  if (source_ == nullptr) {
    nbdkit_error("there are no keys for the store: give access-key= and secret-key=, "
                 "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, a profile in "
                 "~/.aws/credentials, or anonymous=true");
    return false;
  }
  if (source_ == keys_of_parameters || source_ == keys_of_environment)
    return true; // they never expire
  try {
    renewer_ = std::thread([this] { renew(); });
  } catch (const std::system_error &error) {
    nbdkit_error("cannot start a thread to renew keys: %s", error.what());
    return false;
  }
  return true;
}

std::shared_ptr<const Signer> Credentials::current() const {
  std::lock_guard lock(mutex_);
  return signer_;
}

bool Credentials::renew_now() {
  std::lock_guard lock(mutex_);
  if (!renewer_.joinable() || is_over_)
    return false;
  is_wanted_now_ = true;
  pthread_cond_signal(&changed_);
  return true;
}

void Credentials::stop() {
  {
    std::lock_guard lock(mutex_);
    is_over_ = true;
    pthread_cond_signal(&changed_);
  }
  if (renewer_.joinable())
    renewer_.join();
}

Credentials::TimePoint Credentials::next_renewal(TimePoint now) const {
  if (!end_)
    return now + std::chrono::hours(24 * 365); // only when the store says that they have expired
  const auto life = std::max<system_clock::duration>(*end_ - now, seconds(0));
  return *end_ - std::min<system_clock::duration>(BEFORE_THE_END, life / 2);
}

void Credentials::renew() {
  std::unique_lock lock(mutex_);
  TimePoint next = next_renewal(system_clock::now());
  TimePoint last = system_clock::now() - BETWEEN_RENEWALS;
  bool has_failed = false;
  while (!is_over_) {
    const TimePoint now = system_clock::now();
    // At most once in BETWEEN_RENEWALS, because many requests may be refused for the same reason.
    const TimePoint soonest = is_wanted_now_ ? std::min(next, last + BETWEEN_RENEWALS) : next;
    if (now < soonest) {
      // Waits a minute at most, so that a change of the clock does not delay the renewal.
      const TimePoint until = std::min<TimePoint>(soonest, now + minutes(1));
      const timespec at{system_clock::to_time_t(until) + 1, 0};
      pthread_cond_timedwait(&changed_, mutex_.native_handle(), &at);
      continue;
    }
    is_wanted_now_ = false;
    lock.unlock();
    Answer answer = source_(settings_);
    if (answer.keys)
      use(*answer.keys);
    else if (!has_failed) // the present keys are used as long as the store accepts them
      nbdkit_error("cannot renew the keys for the store; will try again: %s",
                   answer.problem.empty() ? "their source has none any more"
                                          : answer.problem.c_str());
    has_failed = !answer.keys.has_value();
    lock.lock();
    const TimePoint after = last = system_clock::now();
    next = has_failed ? after + AFTER_A_FAILURE
                      : std::max<TimePoint>(next_renewal(after), after + BETWEEN_RENEWALS);
  }
}

} // namespace s3
