// Where the requests for a file on a web server go, and which headers, cookies, user and password
// they carry. Redirects change the address; scripts renew headers and cookies.
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
  std::vector<std::string> headers; // "Name: value"; may be secret
  std::string cookie;
  std::string header_script;                // prints headers, one on each line
  std::string cookie_script;                // prints all cookies on one line
  std::string script_directory;             // where they run, as the server changes directory
  unsigned header_script_renew_seconds = 0; // how often they are run again; 0: never
  unsigned cookie_script_renew_seconds = 0;
  std::string user; // if this and the password are empty, the URL's are used
  std::string password;
};

/// Immutable, because requests on several threads share it.
struct Target {
  std::string address;
  std::vector<std::string> headers;
  std::string cookie;
  std::string user;
  std::string password;
  bool is_first;  // not the target of a redirect
  bool is_origin; // on the URL's own server, which may see our headers and cookies
};

/// "Name: value", or another form that libcurl accepts, in each line. Throws std::runtime_error.
std::vector<std::string> header_lines(const std::string &text);

/// Any thread.
class Targets {
public:
  /// Throws std::runtime_error, with a message, if the URL is not valid.
  Targets(const TargetSettings &settings, const Settings &client_settings);

  /// Before the first request. Throws std::runtime_error, with a message.
  void run_scripts();

  std::shared_ptr<const Target> current();
  std::shared_ptr<const Target> first();
  void set_current(std::shared_ptr<const Target> target);
  /// The target of a redirect; null if it must not be followed. Secrets are only sent to the server
  /// that they are for.
  std::shared_ptr<const Target> redirected(const Target &from, const Response &response);

private:
  // `stop` as in run_script().
  void run_header_script(int stop);
  void run_cookie_script(int stop);
  std::unique_ptr<Repetition> repeat(unsigned seconds, void (Targets::*run)(int));
  void change(const std::function<void(Target &)> &change);

  const TargetSettings settings_;
  const Environment environment_;
  const Url url_;
  const bool allows_http_;
  const bool allows_https_;
  // Each is used only by the thread that runs its script.
  unsigned header_runs_ = 0;
  unsigned cookie_runs_ = 0;

  std::mutex mutex_;
  std::shared_ptr<const Target> first_;
  std::shared_ptr<const Target> current_;

  std::unique_ptr<Repetition> header_repetition_; // last, so that they end first
  std::unique_ptr<Repetition> cookie_repetition_;
};

} // namespace http

#endif
