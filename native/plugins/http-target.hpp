// Where the requests for a file on a web server go, and what they say of who asks: it moves by
// redirects, and scripts renew what is said.
#ifndef ASYNCNBD_HTTP_TARGET_HPP
#define ASYNCNBD_HTTP_TARGET_HPP

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "http-client.hpp"
#include "http-script.hpp"

namespace http {

struct TargetSettings {
  std::string url;
  std::vector<std::string> headers; // "Name: value", that may be secret
  std::string cookie;
  std::string header_script;                // prints headers, a line each
  std::string cookie_script;                // prints cookies, in a line
  unsigned header_script_renew_seconds = 0; // how often they are run again; 0: never
  unsigned cookie_script_renew_seconds = 0;
  std::string user; // if empty, and the password too: those of the URL
  std::string password;
};

/// Never changed, as requests of several threads have it.
struct Target {
  std::string address;
  std::vector<std::string> headers;
  std::string cookie;
  std::string user;
  std::string password;
  bool is_first;  // and not where a redirect has led to
  bool is_origin; // of the URL's server, which may know our headers and cookies
};

/// "Name: value", or what libcurl takes besides, in each line. Throws std::runtime_error.
std::vector<std::string> header_lines(const std::string &text);

/// Any thread.
class Targets {
public:
  /// Throws std::runtime_error, with a sentence, if the URL is none.
  explicit Targets(const TargetSettings &settings);

  /// Before the first request. Throws std::runtime_error, with a sentence.
  void run_scripts();

  std::shared_ptr<const Target> current();
  std::shared_ptr<const Target> first();
  void set_current(std::shared_ptr<const Target> target);
  /// Where a redirect leads; null if it must not be followed. What may be secret stays with the
  /// server that it is for.
  std::shared_ptr<const Target> redirected(const Target &from, const Response &response);

private:
  void run_header_script();
  void run_cookie_script();
  std::unique_ptr<Repetition> repeat(unsigned seconds, void (Targets::*run)());
  void change(const std::function<void(Target &)> &change);

  const TargetSettings settings_;
  const Url url_;
  // Each of the thread that runs the script.
  unsigned header_runs_ = 0;
  unsigned cookie_runs_ = 0;

  std::mutex mutex_;
  std::shared_ptr<const Target> first_;
  std::shared_ptr<const Target> current_;

  std::unique_ptr<Repetition> header_repetition_; // they end first
  std::unique_ptr<Repetition> cookie_repetition_;
};

} // namespace http

#endif
