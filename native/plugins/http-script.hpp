// Commands that print what a web server wants to see: headers or cookies that expire.
#ifndef ASYNCNBD_HTTP_SCRIPT_HPP
#define ASYNCNBD_HTTP_SCRIPT_HPP

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "environment.hpp"

namespace http {

/// Runs the command in a shell, with `url` and `iteration` added to the environment, and returns
/// what it has printed. Throws std::runtime_error, with a message. When the descriptor `stop` can
/// be read, the command and what it has started are killed, and Stopped is thrown; -1 for none.
std::string run_script(const std::string &command, const std::string &directory,
                       const Environment &environment, const std::string &url, unsigned iteration,
                       int stop);

struct Stopped {};

/// Calls a function at intervals, on a thread of its own. The function gets the `stop` for
/// run_script(), and may throw Stopped.
class Repetition {
public:
  Repetition(std::chrono::seconds interval, std::function<void(int stop)> work);
  /// Stops a call that is running, and waits for it.
  ~Repetition();
  Repetition(const Repetition &) = delete;
  Repetition &operator=(const Repetition &) = delete;

private:
  void run();

  const std::chrono::seconds interval_;
  const std::function<void(int stop)> work_;
  int stop_; // an eventfd: readable when the thread must end
  std::thread thread_;
};

} // namespace http

#endif
