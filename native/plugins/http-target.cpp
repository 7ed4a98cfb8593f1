// See http-target.hpp.
#include "http-target.hpp"

#include <sstream>
#include <stdexcept>
#include <utility>

#include "warning.hpp"

namespace http {

namespace {

Url checked(const std::string &url) {
  std::optional<Url> parsed = parse_url(url);
  if (!parsed)
    throw std::runtime_error("url=" + printable(url) + ": not an http: or https: URL");
  return std::move(*parsed);
}

/// The cookies that a script has printed.
std::string cookie_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r'))
    text.pop_back();
  if (text.find_first_of("\r\n") != std::string::npos)
    throw std::runtime_error("it prints more than one line");
  return text;
}

} // namespace

std::vector<std::string> header_lines(const std::string &text) {
  std::vector<std::string> headers;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.find_first_not_of(" \t\r") == std::string::npos)
      continue;
    if (line.back() == '\r')
      line.pop_back();
    // "Name;" is sent without a value; a value may end in ';' too.
    const bool is_empty = line.back() == ';' && line.find(':') == std::string::npos;
    const size_t name_end = is_empty ? line.size() - 1 : line.find(':');
    if (name_end == std::string::npos || name_end == 0 || line.find_first_of(" \t\r:") < name_end)
      throw std::runtime_error("expected NAME: VALUE");
    headers.push_back(std::move(line));
  }
  return headers;
}

Targets::Targets(const TargetSettings &settings, const Settings &client_settings)
    : settings_(settings), environment_(client_settings.environment), url_(checked(settings.url)),
      allows_http_(client_settings.allows_http), allows_https_(client_settings.allows_https) {
  const bool is_given = !settings_.user.empty() || !settings_.password.empty();
  first_ = current_ = std::make_shared<Target>(Target{
      url_.address, settings_.headers, settings_.cookie, is_given ? settings_.user : url_.user,
      is_given ? settings_.password : url_.password, true, true});
}

std::shared_ptr<const Target> Targets::current() {
  std::lock_guard lock(mutex_);
  return current_;
}

std::shared_ptr<const Target> Targets::first() {
  std::lock_guard lock(mutex_);
  return first_;
}

void Targets::set_current(std::shared_ptr<const Target> target) {
  std::lock_guard lock(mutex_);
  current_ = std::move(target);
}

std::shared_ptr<const Target> Targets::redirected(const Target &from, const Response &response) {
  const std::optional<Url> url = resolve(from.address, response.field(Field::location));
  if (!url)
    return nullptr;
  const bool is_https = url->origin.starts_with("https:");
  const bool loses_tls = url_.origin.starts_with("https:") && !is_https;
  if (loses_tls || !(is_https ? allows_https_ : allows_http_))
    return nullptr;
  const bool is_origin = url->origin == url_.origin;
  Target target{url->address, {}, {}, url->user, url->password, false, is_origin};
  if (is_origin) {
    const std::shared_ptr<const Target> first = this->first();
    target.headers = first->headers;
    target.cookie = first->cookie;
    if (target.user.empty() && target.password.empty()) {
      target.user = first->user;
      target.password = first->password;
    }
  }
  return std::make_shared<Target>(std::move(target));
}

// ---- scripts ------------------------------------------------------------------------------------

/// Requests in flight keep what they have.
void Targets::change(const std::function<void(Target &)> &change_it) {
  std::lock_guard lock(mutex_);
  const auto changed = [&](const Target &target) {
    auto copy = std::make_shared<Target>(target);
    change_it(*copy);
    return copy;
  };
  const bool is_at_first = current_->is_first;
  first_ = changed(*first_);
  if (is_at_first)
    current_ = first_;
  else if (current_->is_origin)
    current_ = changed(*current_);
}

void Targets::run_header_script(int stop) {
  try {
    const std::vector<std::string> headers =
        header_lines(run_script(settings_.header_script, settings_.script_directory, environment_,
                                settings_.url, header_runs_++, stop));
    change([&](Target &target) { target.headers = headers; });
  } catch (const std::exception &error) {
    throw std::runtime_error(std::string("header-script: ") + error.what());
  }
}

void Targets::run_cookie_script(int stop) {
  try {
    const std::string cookie =
        cookie_line(run_script(settings_.cookie_script, settings_.script_directory, environment_,
                               settings_.url, cookie_runs_++, stop));
    change([&](Target &target) { target.cookie = cookie; });
  } catch (const std::exception &error) {
    throw std::runtime_error(std::string("cookie-script: ") + error.what());
  }
}

/// If a run fails, what the script printed before stays in use.
std::unique_ptr<Repetition> Targets::repeat(unsigned seconds, void (Targets::*run)(int)) {
  if (seconds == 0)
    return nullptr;
  return std::make_unique<Repetition>(std::chrono::seconds(seconds), [this, run](int stop) {
    try {
      (this->*run)(stop);
    } catch (const std::exception &error) {
      warn_operator("http: " + printable(settings_.url) + ": " + error.what());
    }
  });
}

void Targets::run_scripts() {
  if (!settings_.header_script.empty()) {
    run_header_script(-1);
    header_repetition_ = repeat(settings_.header_script_renew_seconds, &Targets::run_header_script);
  }
  if (!settings_.cookie_script.empty()) {
    run_cookie_script(-1);
    cookie_repetition_ = repeat(settings_.cookie_script_renew_seconds, &Targets::run_cookie_script);
  }
}

} // namespace http
