// See client_side.hpp.
#include "client_side.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace ring {

namespace {

// That only a failing test meets.
constexpr int DEADLINE_MS = 40000;

} // namespace

void fail(const std::string &words) {
  fprintf(stderr, "ring_client: %s\n", words.c_str());
  exit(1);
}

void expect(bool is_so, const std::string &words) {
  if (!is_so)
    fail(words);
}

ClientSide::ClientSide(const std::string &path, const std::string &export_name)
    : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  expect(connect(socket_, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0, "connect");
  Hello hello{};
  strncpy(hello.export_name, export_name.c_str(), sizeof hello.export_name - 1);
  expect(send(socket_, &hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello, "hello");

  int fds[2];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fds)];
  iovec piece{&welcome_, sizeof welcome_};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  expect(recvmsg(socket_, &message, MSG_CMSG_CLOEXEC) == sizeof welcome_, "no welcome");
  expect(welcome_.error == 0, "refused: " + std::to_string(welcome_.error));
  const cmsghdr *rights = CMSG_FIRSTHDR(&message);
  expect(rights != nullptr && rights->cmsg_len == CMSG_LEN(sizeof fds), "no memory");
  memcpy(fds, CMSG_DATA(rights), sizeof fds);
  memory_fd_ = fds[0];
  kick_fd_ = fds[1];
  void *mapped = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd_, 0);
  expect(mapped != MAP_FAILED, "mmap");
  shared_ = static_cast<Shared *>(mapped);
}

ClientSide::~ClientSide() {
  munmap(shared_, sizeof(Shared));
  close(memory_fd_);
  close(kick_fd_);
  close(socket_);
}

void ClientSide::submit(const RequestEntry &entry) {
  shared_->requests[submitted_ % ENTRIES].store(entry);
  shared_->submitted.store(++submitted_, std::memory_order_release);
}

void ClientSide::kick() {
  const uint64_t one = 1;
  expect(write(kick_fd_, &one, sizeof one) == sizeof one, "kick");
}

// False: the server has hung up.
bool ClientSide::sleep() {
  pollfd polled{socket_, POLLIN, 0};
  expect(poll(&polled, 1, DEADLINE_MS) == 1, "the server does not complete anything");
  char bytes[64];
  return recv(socket_, bytes, sizeof bytes, 0) > 0;
}

std::optional<Completion> ClientSide::wait() {
  bool is_alive = true;
  while (shared_->completed.load(std::memory_order_acquire) == consumed_) {
    if (!is_alive)
      return std::nullopt;
    shared_->sleeps.store(1);
    if (shared_->completed.load() == consumed_)
      is_alive = sleep();
    shared_->sleeps.store(0);
  }
  const Completion completion = shared_->completions[consumed_ % ENTRIES].load();
  shared_->consumed.store(++consumed_, std::memory_order_release);
  return completion;
}

void ClientSide::wait_for_end() {
  while (sleep())
    ;
}

} // namespace ring
