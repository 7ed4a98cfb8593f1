// The sockets of a multi handle of libcurl's, and its timer, as an epoll set that a wake-up ends.
// All on the client's thread but wake().
#ifndef ASYNCNBD_HTTP_SOCKETS_HPP
#define ASYNCNBD_HTTP_SOCKETS_HPP

#include <optional>
#include <vector>

#include "http-client.hpp"
#include "http-library.hpp"

namespace http {

class Sockets {
public:
  explicit Sockets(const Library &library) : library_(library) {}
  ~Sockets();
  Sockets(const Sockets &) = delete;
  Sockets &operator=(const Sockets &) = delete;

  /// 0 or an errno.
  int open();
  void attach(CURLM *multi);
  /// Any thread; one is as good as many.
  void wake() const;
  /// Waits, and has libcurl do what is to be done.
  void wait(Clock::time_point until);
  /// What libcurl wants done by now, such as to begin the transfers that were added.
  void run_timer(Clock::time_point now);
  std::optional<Clock::time_point> timer() const { return timer_; }

  /// For CURLOPT_OPENSOCKETFUNCTION and CURLOPT_CLOSESOCKETFUNCTION, with this object.
  static int open_socket(void *self, int purpose, curl_sockaddr *address);
  static int close_socket(void *self, int fd);

private:
  // By the descriptor.
  struct Socket {
    // A connection that rests stays in the set, as its next request comes soon: two calls of the
    // system's are saved for each. Others of libcurl's are closed without our being told.
    bool is_connection = false;
    uint8_t wanted = 0;
    uint8_t registered = 0;
  };

  static int on_socket(CURL *easy, int fd, int what, void *self, void *unused);
  static int on_timer(CURLM *multi, long ms, void *self);
  Socket &at(int fd);
  void want(int fd, uint8_t mask);
  void register_as(int fd, uint8_t mask);
  void act(int fd, uint32_t events);

  const Library &library_;
  CURLM *multi_ = nullptr;
  int epoll_ = -1;
  int event_ = -1;
  std::vector<Socket> sockets_;
  std::optional<Clock::time_point> timer_;
};

} // namespace http

#endif
