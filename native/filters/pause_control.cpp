// See pause_control.hpp.
#include "filters/pause_control.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include "base/error_numbers.hpp"
#include "base/high_fd.hpp"
#include "host/log.hpp"
#include "host/log_scope.hpp"

namespace asyncnbd::filters {

namespace {

// An old socket would be in the way; anything else is not ours to remove.
void remove_socket(const std::string &path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode))
    unlink(path.c_str());
}

} // namespace

std::shared_ptr<PauseControl> PauseControl::listen(const std::string &path, std::string *error) {
  std::shared_ptr<PauseControl> control(new PauseControl(path));
  return control->bind(error) ? control : nullptr;
}

bool PauseControl::bind(std::string *error) {
  sockaddr_un address{};
  if (path_.size() >= sizeof address.sun_path) {
    *error = "pause-control=" + path_ + ": the path of a socket may have at most " +
             std::to_string(sizeof address.sun_path - 1) + " bytes, and this one has " +
             std::to_string(path_.size());
    return false;
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.c_str(), path_.size() + 1);
  remove_socket(path_);
  end_ = base::moved_high(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  socket_ = base::moved_high(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  struct stat status {};
  if (end_ == -1 || socket_ == -1 ||
      ::bind(socket_, reinterpret_cast<sockaddr *>(&address), sizeof address) == -1 ||
      stat(path_.c_str(), &status) == -1 || ::listen(socket_, SOMAXCONN) == -1) {
    *error = "pause-control=" + path_ + ": cannot make the socket: " + base::error_text(errno);
    return false;
  }
  device_ = status.st_dev;
  inode_ = status.st_ino;
  return true;
}

PauseControl::~PauseControl() {
  for (const int fd : {socket_, end_})
    if (fd != -1)
      ::close(fd);
}

bool PauseControl::begin(base::Threads &threads, std::shared_ptr<Pausable> pausable) {
  pausable_ = std::move(pausable);
  return threads.run([control = shared_from_this(), log = host::current_log()] {
    const host::LogScope scope(log);
    control->serve();
  });
}

void PauseControl::end() {
  const uint64_t one = 1;
  const ssize_t written = ::write(end_, &one, sizeof one);
  (void)written; // it cannot be full
  if (pausable_ != nullptr)
    pausable_->stop();
  struct stat status {};
  if (stat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_)
    unlink(path_.c_str());
}

bool PauseControl::wait_for(int fd) {
  std::array<pollfd, 2> polled = {{{end_, POLLIN, 0}, {fd, POLLIN, 0}}};
  while (poll(polled.data(), polled.size(), -1) == -1)
    if (errno != EINTR)
      return false;
  return polled[0].revents == 0;
}

// One operator after the other.
void PauseControl::serve() {
  while (wait_for(socket_)) {
    const int client = base::moved_high(accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC));
    if (client == -1) {
      if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        host::log_error("pause-control=%s: cannot accept a connection: %s", path_.c_str(),
                        base::error_text(errno).c_str());
        usleep(100'000); // before it fails again
      }
      continue;
    }
    while (wait_for(client) && answer(client))
      ;
    ::close(client);
  }
}

// Answers with the command in capitals once it is carried out, or with X for an unknown one. White
// space is ignored, for people who type. False: the operator has gone.
bool PauseControl::answer(int client) {
  char command;
  const ssize_t got = ::recv(client, &command, 1, 0);
  if (got != 1)
    return got == -1 && errno == EINTR;
  if (std::strchr("\n\t ", command) != nullptr && command != '\0')
    return true;
  char answer = 'X';
  if (command == 'p') {
    pausable_->pause();
    answer = 'P';
  } else if (command == 'r') {
    pausable_->resume();
    answer = 'R';
  }
  // One who does not read counts as gone.
  return ::send(client, &answer, 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

} // namespace asyncnbd::filters
