// The client's thread: takes jobs, starts their attempts when connections are free, waits for
// sockets, ends attempts that are silent or late, and retries those that have failed.
#ifndef ASYNCNBD_HTTP_LOOP_HPP
#define ASYNCNBD_HTTP_LOOP_HPP

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "http-client.hpp"
#include "http-sockets.hpp"
#include "http-transfer.hpp"

namespace http {

class Client::Loop {
public:
  Loop(const Library &library, Settings settings);
  /// Ends the thread; all jobs end with Failure::stopped.
  ~Loop();

  /// False, after nbdkit_error(), if the system has no descriptor or thread left.
  bool start();
  void submit(std::unique_ptr<Job> job);
  void call(std::function<void()> work);
  void stop();

private:
  using Jobs = std::vector<std::unique_ptr<Job>>;
  using Calls = std::vector<std::function<void()>>;

  void run();
  void make_calls();
  void take_jobs();
  void start_attempts(Clock::time_point now);
  void start_attempt(std::unique_ptr<Job> job, Clock::time_point now);
  bool add_transfer();
  void collect();
  void watch(Clock::time_point now);
  void fail_all();
  Clock::time_point next_time(Clock::time_point now) const;
  /// The attempt is over: schedules another one, or calls done.
  void settle(Transfer &transfer, int code);
  void finish(std::unique_ptr<Job> job);
  std::optional<Clock::duration> pause_before_next(const Transfer &transfer, const Job &job);

  const Library &library_;
  const Settings settings_;
  CURLM *multi_ = nullptr;
  CURLSH *cookies_ = nullptr;
  Sockets sockets_;
  std::thread thread_;

  std::mutex mutex_;
  Jobs incoming_;            // under mutex_
  Calls calls_;              // under mutex_
  bool is_waiting_ = false;  // under mutex_: the thread waits or is about to, and must be woken
  bool is_stopping_ = false; // under mutex_
  bool is_ending_ = false;   // under mutex_

  // Used only by the thread.
  std::deque<std::unique_ptr<Job>> queue_;
  std::multimap<Clock::time_point, std::unique_ptr<Job>> paused_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::vector<Transfer *> idle_;
  size_t active_ = 0;
  bool has_stopped_ = false;
  Clock::time_point next_watch_;
  std::minstd_rand random_;
};

} // namespace http

#endif
