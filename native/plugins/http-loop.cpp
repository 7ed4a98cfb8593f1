// See http-loop.hpp.
#include "http-loop.hpp"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <pthread.h>
#include <system_error>
#include <utility>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace http {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds LONGEST_PAUSE{10'000};
constexpr milliseconds LONGEST_RETRY_AFTER{60'000};
constexpr milliseconds LONGEST_WATCH{250};

int open_socket(void *sockets, int purpose, curl_sockaddr *address) {
  return Sockets::open_socket(sockets, purpose, address);
}

int close_socket(void *sockets, int fd) {
  return Sockets::close_socket(sockets, fd);
}

/// The pause that the server asks for, if any.
std::optional<milliseconds> retry_after(const Library &library, const Response &response) {
  const std::string &text = response.field(Field::retry_after);
  if ((response.status != 429 && response.status != 503) || text.empty())
    return std::nullopt;
  milliseconds wanted{0};
  if (text.find_first_not_of("0123456789") == std::string::npos) {
    wanted = text.size() > 4 ? LONGEST_RETRY_AFTER : milliseconds(1000L * atol(text.c_str()));
  } else {
    const time_t then = library.curl_getdate(text.c_str(), nullptr);
    if (then == -1)
      return std::nullopt;
    const time_t now = time(nullptr);
    wanted =
        then <= now ? milliseconds(0) : milliseconds(1000L * std::min<time_t>(then - now, 3600));
  }
  return std::min(wanted, LONGEST_RETRY_AFTER);
}

bool is_passing_status(int status, Again again) {
  if (status == 429 || status == 503)
    return true;
  return again == Again::safely &&
         (status == 408 || status == 500 || status == 502 || status == 504);
}

} // namespace

// ---- from outside -------------------------------------------------------------------------------

Client::Loop::Loop(const Library &library, Settings settings)
    : library_(library), settings_(std::move(settings)), sockets_(library),
      random_(std::random_device{}()) {}

bool Client::Loop::start() {
  const int error = sockets_.open();
  if (error != 0) {
    nbdkit_error("HTTP: cannot open a descriptor: %s", strerror(error));
    return false;
  }
  multi_ = library_.curl_multi_init();
  if (settings_.keeps_cookies)
    cookies_ = library_.curl_share_init();
  if (multi_ == nullptr || (settings_.keeps_cookies && cookies_ == nullptr)) {
    nbdkit_error("HTTP: libcurl is out of memory");
    return false;
  }
  if (cookies_ != nullptr) // used by one thread, so that it needs no lock
    library_.curl_share_setopt(cookies_, CURLSHOPT_SHARE, CURL_LOCK_DATA_COOKIE);
  sockets_.attach(multi_);
  library_.curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS,
                             static_cast<long>(settings_.connections));
  // This thread must not get signals, which are for the server's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error &error) {
    nbdkit_error("HTTP: cannot start a thread: %s", error.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread_.joinable();
}

Client::Loop::~Loop() {
  {
    std::lock_guard lock(mutex_);
    is_stopping_ = is_ending_ = true;
  }
  if (thread_.joinable()) {
    sockets_.wake();
    thread_.join();
  }
  transfers_.clear();
  if (multi_ != nullptr)
    library_.curl_multi_cleanup(multi_);
  if (cookies_ != nullptr)
    library_.curl_share_cleanup(cookies_);
}

void Client::Loop::submit(std::unique_ptr<Job> job) {
  bool is_waiting = false;
  {
    std::lock_guard lock(mutex_);
    incoming_.push_back(std::move(job));
    is_waiting = std::exchange(is_waiting_, false);
  }
  if (is_waiting)
    sockets_.wake();
}

void Client::Loop::call(std::function<void()> work) {
  bool is_waiting = false;
  {
    std::lock_guard lock(mutex_);
    calls_.push_back(std::move(work));
    is_waiting = std::exchange(is_waiting_, false);
  }
  if (is_waiting)
    sockets_.wake();
}

void Client::Loop::stop() {
  {
    std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  sockets_.wake();
}

// ---- the thread ---------------------------------------------------------------------------------

void Client::Loop::run() {
  pthread_setname_np(pthread_self(), "http-client");
  next_watch_ = Clock::now();
  for (;;) {
    // Replies of one turn are sent together.
    nbdkit_async_batch_begin();
    make_calls(); // which may submit requests
    take_jobs();
    const Clock::time_point now = Clock::now();
    start_attempts(now);
    sockets_.run_timer(now);
    collect();
    watch(now);
    nbdkit_async_batch_end();
    if (has_stopped_) {
      fail_all();
      std::lock_guard lock(mutex_);
      if (is_ending_ && incoming_.empty() && calls_.empty())
        return;
    }
    {
      std::lock_guard lock(mutex_);
      is_waiting_ = incoming_.empty() && calls_.empty() && !(is_stopping_ && !has_stopped_);
      if (!is_waiting_)
        continue;
    }
    sockets_.wait(next_time(Clock::now()));
    std::lock_guard lock(mutex_);
    is_waiting_ = false;
  }
}

void Client::Loop::make_calls() {
  Calls taken;
  {
    std::lock_guard lock(mutex_);
    taken.swap(calls_);
  }
  for (const std::function<void()> &call : taken)
    call();
}

void Client::Loop::take_jobs() {
  Jobs taken;
  {
    std::lock_guard lock(mutex_);
    taken.swap(incoming_);
    has_stopped_ = is_stopping_;
  }
  for (std::unique_ptr<Job> &job : taken)
    queue_.push_back(std::move(job));
}

void Client::Loop::start_attempts(Clock::time_point now) {
  while (!paused_.empty() && paused_.begin()->first <= now) {
    queue_.push_front(std::move(paused_.begin()->second));
    paused_.erase(paused_.begin());
  }
  while (!queue_.empty() && active_ < settings_.connections && !has_stopped_) {
    std::unique_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    start_attempt(std::move(job), now);
  }
}

bool Client::Loop::add_transfer() {
  auto made = std::make_unique<Transfer>(library_, settings_, cookies_, &sockets_, open_socket,
                                         close_socket);
  if (!made->is_made())
    return false;
  if (cookies_ != nullptr && transfers_.empty())
    made->keep_cookie_files(settings_);
  idle_.push_back(made.get());
  transfers_.push_back(std::move(made));
  return true;
}

void Client::Loop::start_attempt(std::unique_ptr<Job> job, Clock::time_point now) {
  if (idle_.empty() && !add_transfer()) {
    job->response.failure = Failure::other;
    job->response.reason = "out of memory";
    finish(std::move(job));
    return;
  }
  Transfer &transfer = *idle_.back();
  if (job->request.prepare)
    job->request.prepare(job->request);
  idle_.pop_back();
  active_++;
  next_watch_ = std::min(next_watch_, job->deadline);
  transfer.begin(std::move(job), now);
  library_.curl_multi_add_handle(multi_, transfer.easy());
}

void Client::Loop::collect() {
  int left = 0;
  while (const CURLMsg *const message = library_.curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE)
      continue;
    Transfer *transfer = nullptr;
    const int code = message->data.result; // the message is gone once the handle is removed
    library_.curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    settle(*transfer, code);
  }
}

void Client::Loop::watch(Clock::time_point now) {
  if (now < next_watch_)
    return;
  const bool has_limit = settings_.silence_ms > 0;
  next_watch_ = now + (has_limit ? std::clamp(milliseconds(settings_.silence_ms / 8),
                                              milliseconds(5), LONGEST_WATCH)
                                 : LONGEST_WATCH);
  for (const std::unique_ptr<Transfer> &transfer : transfers_) {
    if (transfer->job() == nullptr)
      continue;
    const Failure why = now >= transfer->job()->deadline ? Failure::deadline
                        : has_limit && transfer->is_silent(now, settings_.silence_ms)
                            ? Failure::silence
                            : Failure::none;
    if (why == Failure::none) {
      next_watch_ = std::min(next_watch_, transfer->job()->deadline);
      continue;
    }
    transfer->give_up(why);
    settle(*transfer, CURLE_OK);
  }
  Jobs late;
  for (std::unique_ptr<Job> &job : queue_)
    if (now >= job->deadline)
      late.push_back(std::move(job));
  std::erase(queue_, nullptr);
  for (std::unique_ptr<Job> &job : late) {
    job->response.failure = Failure::deadline;
    finish(std::move(job));
  }
}

Clock::time_point Client::Loop::next_time(Clock::time_point now) const {
  Clock::time_point next = now + std::chrono::hours(1);
  if (active_ > 0 || !queue_.empty())
    next = next_watch_;
  if (!paused_.empty())
    next = std::min(next, paused_.begin()->first);
  return std::min(next, sockets_.timer().value_or(next));
}

void Client::Loop::fail_all() {
  for (const std::unique_ptr<Transfer> &transfer : transfers_)
    if (transfer->job() != nullptr) {
      transfer->give_up(Failure::stopped);
      settle(*transfer, CURLE_OK);
    }
  for (auto &[time, job] : paused_)
    queue_.push_back(std::move(job));
  paused_.clear();
  for (std::deque<std::unique_ptr<Job>> jobs = std::move(queue_);
       std::unique_ptr<Job> & job : jobs) {
    job->response.failure = Failure::stopped;
    finish(std::move(job));
  }
  queue_.clear();
}

// ---- the end of an attempt ----------------------------------------------------------------------

void Client::Loop::settle(Transfer &transfer, int code) {
  library_.curl_multi_remove_handle(multi_, transfer.easy());
  std::unique_ptr<Job> job = transfer.end(code);
  const auto pause = pause_before_next(transfer, *job);
  idle_.push_back(&transfer);
  active_--;
  if (!pause) {
    finish(std::move(job));
    return;
  }
  if (job->request.on_retry)
    job->request.on_retry(job->response);
  paused_.emplace(Clock::now() + *pause, std::move(job));
}

/// Nothing if there will be no other attempt.
std::optional<Clock::duration> Client::Loop::pause_before_next(const Transfer &transfer,
                                                               const Job &job) {
  const Retry &retry = job.request.retry;
  const Response &response = job.response;
  if (retry.again == Again::never || response.attempts >= retry.attempts || has_stopped_)
    return std::nullopt;
  bool is_passing = false;
  switch (response.failure) {
  case Failure::none:
    is_passing = is_passing_status(response.status, retry.again) ||
                 (job.request.is_passing && job.request.is_passing(response));
    break;
  case Failure::name:
  case Failure::connect:
    is_passing = retry.tries_unreached;
    break;
  case Failure::tls:
    is_passing = retry.tries_unreached && transfer.has_broken_handshake();
    break;
  case Failure::silence:
  case Failure::lost:
  case Failure::reset:
    is_passing = retry.again == Again::safely;
    break;
  default:
    break;
  }
  if (!is_passing)
    return std::nullopt;
  Clock::duration pause;
  if (const auto wanted = retry_after(library_, response)) {
    pause = *wanted;
  } else {
    const unsigned doublings = std::min(response.attempts - 1, 16U);
    const milliseconds full =
        std::min(milliseconds(static_cast<int64_t>(retry.delay_ms) << doublings), LONGEST_PAUSE);
    // So that requests that fail together are not retried together.
    pause = std::chrono::duration_cast<Clock::duration>(
        full * std::uniform_real_distribution<>(0.5, 1.5)(random_));
  }
  if (Clock::now() + pause >= job.deadline)
    return std::nullopt;
  return pause;
}

void Client::Loop::finish(std::unique_ptr<Job> job) {
  try {
    job->request.done(job->response);
  } catch (const std::exception &error) {
    nbdkit_error("HTTP: %s", error.what());
  }
}

} // namespace http
