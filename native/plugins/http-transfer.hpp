// An easy handle of libcurl, which uses one of the client's connections, carries out one attempt of
// one job at a time, and is reused. All on the client's thread.
#ifndef ASYNCNBD_HTTP_TRANSFER_HPP
#define ASYNCNBD_HTTP_TRANSFER_HPP

#include <memory>

#include "http-client.hpp"
#include "http-library.hpp"

namespace http {

/// A request on its way, and its response.
struct Job {
  Request request;
  Response response;
  Clock::time_point deadline;
};

class Transfer {
public:
  /// Makes the handle, with the settings that all requests share; see is_made. `sockets` is given
  /// to the functions that open and close sockets. `cookies`: the cookies that all handles share,
  /// or null.
  Transfer(const Library &library, const Settings &settings, CURLSH *cookies, void *sockets,
           int (*open)(void *, int, curl_sockaddr *), int (*close)(void *, int));
  ~Transfer();
  Transfer(const Transfer &) = delete;
  Transfer &operator=(const Transfer &) = delete;

  bool is_made() const { return easy_ != nullptr; }
  CURL *easy() const { return easy_; }
  /// This handle reads the cookie file at the start, and writes the jar when it is destroyed.
  void keep_cookie_files(const Settings &settings);
  Job *job() const { return job_.get(); }

  /// Prepares the handle for an attempt; the caller then adds it.
  void begin(std::unique_ptr<Job> job, Clock::time_point now);
  /// Called after it has been removed, with libcurl's `code`, or after give_up(): returns the job
  /// with its response.
  std::unique_ptr<Job> end(int code);
  /// Sets why it ends early.
  void give_up(Failure why) { given_up_ = why; }
  bool is_silent(Clock::time_point now, unsigned silence_ms);
  /// Whether the last attempt failed in a handshake that may work the next time.
  bool has_broken_handshake() const { return has_broken_handshake_; }

private:
  static size_t on_header(char *text, size_t size, size_t count, void *self);
  static size_t on_body(char *bytes, size_t size, size_t count, void *self);
  size_t take_header(std::string_view line);
  size_t take_body(const char *bytes, size_t count);
  size_t take_text(const char *bytes, size_t count);

  void set(int option, long value) { library_.curl_easy_setopt(easy_, option, value); }
  void set(int option, const char *text) { library_.curl_easy_setopt(easy_, option, text); }
  void set_if_any(int option, const std::string &text);
  void set_protocol(const Settings &settings);
  void set_tls(const Settings &settings);
  void set_proxy();
  void choose_proxy();
  void set_functions(void *sockets, int (*open)(void *, int, curl_sockaddr *),
                     int (*close)(void *, int));
  void set_method();
  void set_credentials();
  void set_headers();
  Failure failure_of(int code);
  std::string words_of(int code) const;
  std::string reason_of_loss(int code) const;

  const Library &library_;
  const Settings &settings_; // the loop's
  CURL *easy_;
  std::unique_ptr<Job> job_;
  curl_slist *headers_ = nullptr;
  curl_slist *addresses_ = nullptr;
  // The handle's present settings, so that equal ones are not set again.
  Method method_ = Method::get;
  std::string url_, cookie_, user_, password_, provider_, proxy_;
  bool has_range_ = false;
  // For this attempt.
  Failure given_up_ = Failure::none;
  bool is_text_full_ = false;
  bool has_broken_handshake_ = false;
  size_t header_bytes_ = 0;
  uint64_t moved_bytes_ = 0; // headers and bodies received
  size_t piece_ = 0;         // the index in `into`
  size_t piece_bytes_ = 0;   // filled bytes of that piece
  // For is_silent().
  Clock::time_point watched_since_;
  uint64_t watched_from_ = 0;
  char words_[256]; // CURL_ERROR_SIZE
};

} // namespace http

#endif
