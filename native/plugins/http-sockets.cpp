// See http-sockets.hpp.
#include "http-sockets.hpp"

#include <cerrno>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace http {

namespace {

constexpr int MAX_EVENTS = 64;

} // namespace

Sockets::~Sockets() {
  if (event_ != -1)
    ::close(event_);
  if (epoll_ != -1)
    ::close(epoll_);
}

int Sockets::open() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  event_ = epoll_ == -1 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = event_;
  if (event_ == -1 || epoll_ctl(epoll_, EPOLL_CTL_ADD, event_, &event) == -1)
    return errno;
  return 0;
}

void Sockets::attach(CURLM *multi) {
  multi_ = multi;
  library_.curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
  library_.curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, this);
  library_.curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
  library_.curl_multi_setopt(multi, CURLMOPT_TIMERDATA, this);
}

void Sockets::wake() const {
  [[maybe_unused]] const int result =
      eventfd_write(event_, 1); // fails only if many wake-ups are pending
}

void Sockets::wait(Clock::time_point until) {
  const auto left = until - Clock::now();
  // Rounded up, because being early would waste a turn.
  const int64_t left_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(left + std::chrono::microseconds(999))
          .count();
  constexpr int64_t LONGEST_MS = 60'000;
  const int timeout_ms = static_cast<int>(left_ms < 0            ? 0
                                          : left_ms > LONGEST_MS ? LONGEST_MS
                                                                 : left_ms);
  epoll_event events[MAX_EVENTS];
  const int count = epoll_wait(epoll_, events, MAX_EVENTS, timeout_ms);
  for (int i = 0; i < count; i++) {
    if (events[i].data.fd != event_) {
      act(events[i].data.fd, events[i].events);
      continue;
    }
    eventfd_t value = 0;
    eventfd_read(event_, &value);
  }
}

void Sockets::act(int fd, uint32_t events) {
  const Socket &socket = at(fd);
  if (socket.registered == 0)
    return;
  if (socket.wanted == 0) { // the server has closed an idle connection: libcurl will notice
    register_as(fd, 0);
    return;
  }
  int mask = 0;
  if ((events & (EPOLLIN | EPOLLHUP)) != 0)
    mask |= CURL_CSELECT_IN;
  if ((events & EPOLLOUT) != 0)
    mask |= CURL_CSELECT_OUT;
  if ((events & EPOLLERR) != 0)
    mask |= CURL_CSELECT_ERR;
  int running = 0;
  library_.curl_multi_socket_action(multi_, fd, mask, &running);
}

void Sockets::run_timer(Clock::time_point now) {
  if (!timer_ || *timer_ > now)
    return;
  timer_.reset();
  int running = 0;
  library_.curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
}

int Sockets::on_timer(CURLM *, long ms, void *self) {
  auto &timer = static_cast<Sockets *>(self)->timer_;
  if (ms < 0)
    timer.reset();
  else // 0 is at once: in this turn, even if its `now` was taken earlier
    timer = ms == 0 ? Clock::time_point() : Clock::now() + std::chrono::milliseconds(ms);
  return 0;
}

// ---- the set ------------------------------------------------------------------------------------

Sockets::Socket &Sockets::at(int fd) {
  if (static_cast<size_t>(fd) >= sockets_.size())
    sockets_.resize(static_cast<size_t>(fd) + 16);
  return sockets_[static_cast<size_t>(fd)];
}

int Sockets::on_socket(CURL *, int fd, int what, void *self, void *) {
  static_cast<Sockets *>(self)->want(
      fd,
      what == CURL_POLL_REMOVE ? 0 : static_cast<uint8_t>(what & (CURL_POLL_IN | CURL_POLL_OUT)));
  return 0;
}

void Sockets::want(int fd, uint8_t mask) {
  Socket &socket = at(fd);
  socket.wanted = mask;
  const bool rests = mask == 0 && socket.is_connection && socket.registered == CURL_POLL_IN;
  if (!rests && socket.registered != mask)
    register_as(fd, mask);
}

void Sockets::register_as(int fd, uint8_t mask) {
  Socket &socket = at(fd);
  epoll_event event{};
  event.data.fd = fd;
  event.events = ((mask & CURL_POLL_IN) != 0 ? static_cast<uint32_t>(EPOLLIN) : 0) |
                 ((mask & CURL_POLL_OUT) != 0 ? static_cast<uint32_t>(EPOLLOUT) : 0);
  const int operation = mask == 0                ? EPOLL_CTL_DEL
                        : socket.registered == 0 ? EPOLL_CTL_ADD
                                                 : EPOLL_CTL_MOD;
  // If the descriptor was closed and reused, the set does not contain it.
  if (epoll_ctl(epoll_, operation, fd, &event) == -1 && mask != 0)
    epoll_ctl(epoll_, errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
  socket.registered = mask;
}

int Sockets::open_socket(void *self, int, curl_sockaddr *address) {
  const int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
  if (fd != -1)
    static_cast<Sockets *>(self)->at(fd) = {true, 0, 0};
  return fd;
}

int Sockets::close_socket(void *self, int fd) {
  static_cast<Sockets *>(self)->at(fd) = {};
  return ::close(fd); // this removes it from the set
}

} // namespace http
