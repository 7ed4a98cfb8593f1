// See http-file.hpp.
#include "http-file.hpp"

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <utility>

#include "warning.hpp"

namespace http {

namespace {

constexpr unsigned MAX_MOVES = 10;
// If the start cannot succeed, it should fail soon.
constexpr unsigned START_ATTEMPTS = 3;
constexpr std::chrono::seconds WARNING_PAUSE{1};

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// The size in "bytes 0-0/SIZE", or in "bytes */SIZE" for an empty file.
std::optional<uint64_t> size_in(const std::string &content_range) {
  const size_t slash = content_range.find('/');
  if (!content_range.starts_with("bytes ") || slash == std::string::npos)
    return std::nullopt;
  const char *const from = content_range.data() + slash + 1;
  const char *const to = content_range.data() + content_range.size();
  uint64_t size = 0;
  const auto [end, error] = std::from_chars(from, to, size);
  if (error != std::errc() || end != to || from == to || size > INT64_MAX)
    return std::nullopt;
  return size;
}

int client_error(const Response &response) {
  const bool is_forbidden = response.status == 401 || response.status == 403;
  return response.failure == Failure::none && is_forbidden ? EPERM : EIO;
}

// An empty file has no range that could be sent.
bool is_of_empty_file(const Response &response) {
  return response.failure == Failure::none &&
         (response.status == 416 ||
          (response.status == 200 && response.field(Field::content_length) == "0"));
}

} // namespace

// ---- where it is --------------------------------------------------------------------------------

File::File(FileSettings settings, const Settings &client_settings)
    : settings_(std::move(settings)), client_settings_(client_settings),
      name_(printable(settings_.target.url)),
      reads_({.requests = client_settings_.connections, .most_bytes = settings_.max_request_bytes},
             [this](Reads::Group group) {
               send(std::make_shared<Group>(Group{std::move(group), targets_.current()}));
             }),
      targets_(settings_.target, client_settings_) {}

File::~File() {
  client_.reset(); // fails the reads that are left
}

Request File::request_of(const Target &target, Range range) const {
  Request request;
  request.url = target.address;
  request.headers.reserve(target.headers.size() + 2);
  request.headers = target.headers;
  // A range of compressed data would not be the bytes that we ask for.
  request.headers.emplace_back("Accept-Encoding: identity");
  if (!etag_.empty())
    request.headers.push_back("If-Range: " + etag_);
  request.cookie = target.cookie;
  request.user = target.user;
  request.password = target.password;
  request.range = range;
  request.retry = settings_.retry;
  return request;
}

// ---- what it is ---------------------------------------------------------------------------------

Response File::ask_for_size() {
  for (unsigned moves = 0;; moves++) {
    char byte = 0;
    const std::shared_ptr<const Target> target = targets_.current();
    Request request = request_of(*target, {0, 1});
    request.into = {{&byte, 1}};
    request.retry.attempts = std::min(request.retry.attempts, START_ATTEMPTS);
    request.retry.tries_unreached = false;
    request.on_retry = [this](const Response &response) { warn(response); };
    Response response = client_->perform(std::move(request));
    if (response.failure != Failure::none || !is_redirect(response.status) ||
        !settings_.follows_redirects)
      return response;
    if (moves == MAX_MOVES)
      throw std::runtime_error(
          name_ + ": there are more than 10 redirects; give the URL where the file is");
    auto next = targets_.redirected(*target, response);
    if (next == nullptr) {
      const bool is_limited = !client_settings_.allows_http || !client_settings_.allows_https;
      throw std::runtime_error(name_ +
                               ": the server redirects to a URL that is neither http: nor https:, "
                               "or from https: to http:" +
                               (is_limited ? ", or that protocols= does not allow" : ""));
    }
    targets_.set_current(std::move(next));
  }
}

void File::identify() {
  targets_.run_scripts();
  client_ = Client::start(client_settings_);
  if (client_ == nullptr)
    throw nbdkit::Reported();
  const Response response = ask_for_size();
  const bool is_empty = is_of_empty_file(response);
  if (response.status == 200 && !is_empty)
    throw std::runtime_error(name_ + ": the server does not support range requests");
  if (!is_empty && (response.failure != Failure::none || response.status != 206)) {
    std::string words = name_ + ": " + explain(response);
    if (response.failure == Failure::none && response.status == 401)
      words += "; give user= and password=, or header=";
    if (is_unknown_issuer(response) && client_settings_.verifies_tls)
      words += "; give the certificates to trust with cainfo=";
    throw std::runtime_error(words);
  }
  if (response.status != 200)
    take_identity(response);
  if (is_empty && size_bytes_ > 0)
    throw std::runtime_error(
        name_ + ": the file is not empty, but the server refuses to send its first byte");
}

void File::take_identity(const Response &response) {
  const std::optional<uint64_t> size = size_in(response.field(Field::content_range));
  if (!size)
    throw std::runtime_error(name_ + ": the server did not send the file's size in Content-Range");
  size_bytes_ = *size;
  // A weak ETag does not promise equal bytes.
  if (response.field(Field::etag).starts_with('"'))
    etag_ = response.field(Field::etag);
  last_modified_ = response.field(Field::last_modified);
}

// ---- reads --------------------------------------------------------------------------------------

void File::read(nbdkit::ReadRequest read) {
  const uint64_t offset = read.offset(); // before it is moved
  const uint64_t count = read.count();
  reads_.add(*client_, offset, count, std::move(read));
}

void File::send(std::shared_ptr<Group> group) {
  Request request = request_of(*group->target, {group->offset, group->count});
  request.into.reserve(group->reads.size());
  for (const nbdkit::ReadRequest &read : group->reads)
    request.into.emplace_back(reinterpret_cast<char *>(read.buffer().data()), read.count());
  request.retry.deadline_ms = left_ms(settings_.retry.deadline_ms, group->since);
  request.on_retry = [this](const Response &response) { warn(response); };
  request.done = [this, group = std::move(group)](const Response &response) {
    on_response(group, response);
  };
  client_->submit(std::move(request));
}

void File::on_response(const std::shared_ptr<Group> &group, const Response &response) {
  if (is_right(*group, response))
    for (nbdkit::ReadRequest &read : group->reads)
      std::move(read).done();
  else if (is_sent_elsewhere(group, response))
    return;
  else
    fail(*group, response);
  reads_.is_over();
}

/// Whether it is the version that we serve, and the requested range.
bool File::is_right(const Group &group, const Response &response) const {
  if (response.failure != Failure::none || response.status != 206 ||
      response.received != group.count || has_changed(response))
    return false;
  const std::string &encoding = response.field(Field::content_encoding);
  const std::string range = "bytes " + std::to_string(group.offset) + "-" +
                            std::to_string(group.offset + group.count - 1) + "/" +
                            std::to_string(size_bytes_);
  return response.field(Field::content_range) == range &&
         (encoding.empty() || encoding == "identity");
}

bool File::has_changed(const Response &response) const {
  return (!etag_.empty() && response.field(Field::etag) != etag_) ||
         (!last_modified_.empty() && response.field(Field::last_modified) != last_modified_);
}

/// Sends the request again if the file has moved, or is no longer where it had moved to.
bool File::is_sent_elsewhere(const std::shared_ptr<Group> &group, const Response &response) {
  if (response.failure == Failure::stopped || group->moves == MAX_MOVES ||
      !settings_.follows_redirects)
    return false;
  const bool has_failed = response.failure != Failure::none;
  const bool is_moved = !has_failed && is_redirect(response.status);
  if (!has_failed && !is_moved && (response.status / 100 != 4 || response.status == 416))
    return false;
  std::shared_ptr<const Target> target;
  if (is_moved)
    target = targets_.redirected(*group->target, response);
  // The target of a redirect may have been temporary: back to the first. After a failure only once,
  // because all retries have failed too.
  if (target == nullptr && !group->target->is_first && !(has_failed && group->has_returned)) {
    target = targets_.first();
    group->has_returned |= has_failed;
  }
  if (target == nullptr)
    return false;
  group->moves++;
  group->target = target;
  targets_.set_current(std::move(target));
  send(group);
  return true;
}

void File::fail(Group &group, const Response &response) const {
  const bool is_partial = response.failure == Failure::none && response.status == 206;
  const bool is_another =
      response.status == 200 || response.status == 416 ||
      (is_partial &&
       (has_changed(response) || size_in(response.field(Field::content_range)) != size_bytes_));
  const std::string words =
      is_another   ? "the file has changed on the server; restart to serve the new version"
      : is_partial ? "the server sent another range than requested"
                   : explain(response);
  if (response.failure != Failure::stopped)
    nbdkit_error("http: %s: %s", name_.c_str(), words.c_str());
  for (nbdkit::ReadRequest &read : group.reads)
    std::move(read).fail(client_error(response));
}

/// At most one a second, because many requests fail at once when a server does.
void File::warn(const Response &response) {
  const Clock::time_point now = Clock::now();
  if (now - last_warning_ < WARNING_PAUSE)
    return;
  last_warning_ = now;
  warn_operator("http: " + name_ + ": " + explain(response) + "; retrying");
}

} // namespace http
