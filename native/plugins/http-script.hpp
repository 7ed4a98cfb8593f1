// Commands that print what a web server wants to see: headers or cookies whose time is limited.
#ifndef ASYNCNBD_HTTP_SCRIPT_HPP
#define ASYNCNBD_HTTP_SCRIPT_HPP

#include <chrono>
#include <functional>
#include <mutex>
#include <pthread.h>
#include <string>
#include <thread>

namespace http {

/// Runs the command in a shell, with `url` and `iteration` in its environment, and returns what it
/// has printed. Throws std::runtime_error, with a sentence.
std::string run_script(const std::string &command, const std::string &url, unsigned iteration);

/// Calls a function at intervals, on a thread of its own.
class Repetition {
public:
  Repetition(std::chrono::seconds interval, std::function<void()> work);
  /// Waits for a call that goes on.
  ~Repetition();
  Repetition(const Repetition &) = delete;
  Repetition &operator=(const Repetition &) = delete;

private:
  void run();

  const std::chrono::seconds interval_;
  const std::function<void()> work_;
  std::mutex mutex_;
  // That of C++ needs a libstdc++ that is too new for some systems where this runs.
  pthread_cond_t changed_; // by CLOCK_MONOTONIC
  bool is_over_ = false;
  std::thread thread_;
};

} // namespace http

#endif
