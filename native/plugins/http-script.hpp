// Commands that print what a web server wants to see: headers or cookies whose time is limited.
#ifndef ASYNCNBD_HTTP_SCRIPT_HPP
#define ASYNCNBD_HTTP_SCRIPT_HPP

#include <chrono>
#include <functional>
#include <string>
#include <thread>

namespace http {

/// Runs the command in a shell, with `url` and `iteration` in its environment, and returns what it
/// has printed. Throws std::runtime_error, with a sentence. When the descriptor `stop` (or -1) can
/// be read, the command and what it has started are killed, and Stopped is thrown.
std::string run_script(const std::string &command, const std::string &directory,
                       const std::string &url, unsigned iteration, int stop);

struct Stopped {};

/// Calls a function at intervals, on a thread of its own. The function gets the `stop` for
/// run_script(), and may throw Stopped.
class Repetition {
public:
  Repetition(std::chrono::seconds interval, std::function<void(int stop)> work);
  /// Stops a call that goes on, and waits for it.
  ~Repetition();
  Repetition(const Repetition &) = delete;
  Repetition &operator=(const Repetition &) = delete;

private:
  void run();

  const std::chrono::seconds interval_;
  const std::function<void(int stop)> work_;
  int stop_; // an eventfd: readable when it is over
  std::thread thread_;
};

} // namespace http

#endif
