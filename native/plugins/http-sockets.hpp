// The sockets and the timer of a libcurl multi handle, in an epoll set whose wait can be
// interrupted. All functions except wake() run on the client's thread.
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
  /// Any thread; several calls count as one.
  void wake() const;
  /// Waits, and lets libcurl handle events.
  void wait(Clock::time_point until);
  /// Lets libcurl do what is due, such as starting added transfers.
  void run_timer(Clock::time_point now);
  std::optional<Clock::time_point> timer() const { return timer_; }

  /// For CURLOPT_OPENSOCKETFUNCTION and CURLOPT_CLOSESOCKETFUNCTION, with this object.
  static int open_socket(void *self, int purpose, curl_sockaddr *address);
  static int close_socket(void *self, int fd);

private:
  // Indexed by the descriptor.
  struct Socket {
    // An idle connection stays in the set, because its next request comes soon: this saves two
    // system calls for each. libcurl closes other sockets without telling us.
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
