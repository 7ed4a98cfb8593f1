// EpollPoller of poller.hpp.
#include "schedule/poller.hpp"

#include <sys/epoll.h>
#include <unistd.h>

namespace asyncnbd::schedule {

namespace {

// One event for each arrival, without a system call between two of them.
constexpr unsigned INPUT_EVENTS = EPOLLIN | EPOLLRDHUP | EPOLLET;

} // namespace

EpollPoller::~EpollPoller() {
  if (epoll_fd_ != -1)
    close(epoll_fd_);
}

bool EpollPoller::open() {
  if (epoll_fd_.load() != -1)
    return true;
  std::lock_guard lock(opening_);
  if (epoll_fd_.load() == -1) // or another try: there may have been no descriptor
    epoll_fd_.store(epoll_create1(EPOLL_CLOEXEC));
  return epoll_fd_.load() != -1;
}

bool EpollPoller::add(const PolledFds &fds, void *whose) {
  epoll_event wakes{EPOLLIN | EPOLLET, {.ptr = whose}}; // nobody reads it
  epoll_event input{INPUT_EVENTS, {.ptr = whose}};
  return epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fds.input, &input) == 0 &&
         epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fds.wake, &wakes) == 0;
}

bool EpollPoller::modify(const PolledFds &fds, void *whose, unsigned events) {
  epoll_event event{events, {.ptr = whose}};
  return epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fds.input, &event) == 0;
}

bool EpollPoller::suspend_input(const PolledFds &fds, void *whose) {
  return modify(fds, whose, EPOLLONESHOT); // a hang-up cannot be left out
}

bool EpollPoller::resume_input(const PolledFds &fds, void *whose) {
  return modify(fds, whose, INPUT_EVENTS);
}

void EpollPoller::remove(const PolledFds &fds) {
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fds.input, nullptr);
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fds.wake, nullptr);
}

std::optional<Poller::Event> EpollPoller::wait(int timeout_ms) {
  epoll_event event{};
  // One event at a time: further ones would have to wait for this thread.
  if (epoll_wait(epoll_fd_, &event, 1, timeout_ms) != 1)
    return std::nullopt; // or a signal: the caller looks again
  return Event{event.data.ptr, (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0};
}

} // namespace asyncnbd::schedule
