// The system's functions for descriptors and memory, as the sources under test see them: the linker
// sends their calls here (--wrap). Descriptors that are not simulated are the system's.
#include "system.hpp"

#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "descriptors.hpp"
#include "memory_order.hpp"

using namespace simulation;

namespace simulation {

namespace {

constexpr int64_t NS_PER_MS = 1'000'000;

// Where all memory is mapped, one piece behind the other, so that each run of a seed has the same
// addresses: nothing else is here.
constexpr uintptr_t AREA = 0x200000000000;
constexpr uintptr_t AREA_BYTES = 1ULL << 40;
constexpr uintptr_t PAGE_BYTES = 4096;

uint64_t refuse_memory_one_in = 0;
int64_t mapped = 0;
uintptr_t next_address = AREA;

// A call into the system: another thread may come before it, and sees what this one has stored.
void enter_system() {
  may_switch();
  show_stores(current_fiber());
}

// As a system call returns it.
ssize_t answer(ssize_t result) {
  if (result >= 0)
    return result;
  errno = static_cast<int>(-result);
  return -1;
}

int64_t due_after(int timeout_ms) {
  return timeout_ms < 0 ? NEVER : now_ns() + timeout_ms * NS_PER_MS;
}

Socket &socket_at(int fd) {
  auto *socket = dynamic_cast<Socket *>(&descriptor(fd));
  if (socket == nullptr)
    fail("a descriptor is no socket: %d", fd);
  return *socket;
}

int new_descriptor(std::shared_ptr<Descriptor> made) {
  enter_system();
  return static_cast<int>(answer(add_descriptor(std::move(made))));
}

// What poll says of one; 0: nothing.
short poll_one(const pollfd &end) {
  if (end.fd < 0)
    return 0;
  const uint32_t events = descriptor(end.fd).events();
  return static_cast<short>(events & (static_cast<uint32_t>(end.events) | POLLHUP | POLLERR));
}

int poll_all(pollfd *ends, nfds_t count) {
  int ready = 0;
  for (nfds_t i = 0; i < count; i++) {
    ends[i].revents = poll_one(ends[i]);
    ready += ends[i].revents != 0 ? 1 : 0;
  }
  return ready;
}

} // namespace

void refuse_memory(uint64_t one_in) {
  refuse_memory_one_in = one_in;
}
int64_t mapped_bytes() {
  return mapped;
}
void begin_addresses() {
  next_address = AREA;
}

} // namespace simulation

extern "C" {

int __wrap_eventfd(unsigned, int) {
  return new_descriptor(std::make_shared<EventCounter>());
}

ssize_t __real_read(int fd, void *to, size_t length_bytes);
ssize_t __wrap_read(int fd, void *to, size_t length_bytes) {
  if (!is_simulated(fd))
    return __real_read(fd, to, length_bytes);
  enter_system();
  auto *counter = dynamic_cast<EventCounter *>(&descriptor(fd));
  if (counter == nullptr)
    fail("only an eventfd is read");
  if (counter->count == 0)
    return answer(-EAGAIN);
  memcpy(to, &counter->count, sizeof counter->count);
  counter->count = 0;
  return sizeof counter->count;
}

ssize_t __real_write(int fd, const void *from, size_t length_bytes);
ssize_t __wrap_write(int fd, const void *from, size_t length_bytes) {
  if (!is_simulated(fd))
    return __real_write(fd, from, length_bytes);
  enter_system();
  auto *counter = dynamic_cast<EventCounter *>(&descriptor(fd));
  if (counter == nullptr)
    fail("only an eventfd is written");
  uint64_t more;
  memcpy(&more, from, sizeof more);
  counter->count += more;
  counter->notify(EPOLLIN);
  return sizeof more;
}

int __real_close(int fd);
int __wrap_close(int fd) {
  if (!is_simulated(fd))
    return __real_close(fd);
  enter_system();
  close_descriptor(fd);
  return 0;
}

ssize_t __wrap_recv(int fd, void *to, size_t length_bytes, int) {
  enter_system();
  return answer(socket_at(fd).receive(static_cast<uint8_t *>(to), length_bytes));
}

ssize_t __wrap_recvmsg(int fd, msghdr *message, int) {
  enter_system();
  ssize_t all = 0;
  for (size_t i = 0; i < message->msg_iovlen; i++) {
    const iovec &part = message->msg_iov[i];
    const ssize_t received =
        all > 0 && socket_at(fd).in->size() == 0
            ? 0
            : socket_at(fd).receive(static_cast<uint8_t *>(part.iov_base), part.iov_len);
    if (received < 0)
      return answer(received);
    all += received;
    if (static_cast<size_t>(received) < part.iov_len)
      break;
  }
  return all;
}

ssize_t __wrap_sendmsg(int fd, const msghdr *message, int flags) {
  enter_system();
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < message->msg_iovlen; i++) {
    const auto *from = static_cast<const uint8_t *>(message->msg_iov[i].iov_base);
    bytes.insert(bytes.end(), from, from + message->msg_iov[i].iov_len);
  }
  // Kept while it waits: the descriptor may be closed meanwhile.
  const std::shared_ptr<Descriptor> kept = shared_descriptor(fd);
  return answer(socket_at(fd).send(bytes.data(), bytes.size(), (flags & MSG_DONTWAIT) == 0));
}

int __wrap_shutdown(int fd, int how) {
  enter_system();
  if (how == SHUT_WR)
    socket_at(fd).end_writing();
  else
    socket_at(fd).shut_down();
  return 0;
}

int __wrap_poll(pollfd *ends, nfds_t count, int timeout_ms) {
  enter_system();
  int ready = poll_all(ends, count);
  if (ready > 0 || timeout_ms == 0)
    return ready;
  std::vector<std::shared_ptr<Descriptor>> kept;
  for (nfds_t i = 0; i < count; i++)
    if (ends[i].fd >= 0)
      kept.push_back(shared_descriptor(ends[i].fd));
  wait_until([&] { return (ready = poll_all(ends, count)) > 0; }, due_after(timeout_ms));
  return poll_all(ends, count);
}

int __wrap_epoll_create1(int) {
  return new_descriptor(std::make_shared<Epoll>());
}

int __wrap_epoll_ctl(int fd, int what, int of, epoll_event *event) {
  enter_system();
  const auto epoll = std::dynamic_pointer_cast<Epoll>(shared_descriptor(fd));
  const std::shared_ptr<Descriptor> whose = shared_descriptor(of);
  auto &watches = whose->watches;
  if (what == EPOLL_CTL_ADD)
    watches.push_back(std::make_shared<Watch>());
  for (auto place = watches.begin(); place != watches.end(); ++place) {
    Watch &watch = **place;
    if (what == EPOLL_CTL_ADD && place + 1 == watches.end())
      watch.epoll = epoll;
    if (watch.epoll.lock() != epoll)
      continue;
    if (what == EPOLL_CTL_DEL) {
      watch.whose.reset(); // events that are queued are none
      watches.erase(place);
      return 0;
    }
    watch.whose = whose;
    watch.events = event->events;
    watch.is_armed = true;
    watch.data = event->data;
    whose->notify(whose->events());
    return 0;
  }
  return static_cast<int>(answer(-ENOENT));
}

int __wrap_epoll_wait(int fd, epoll_event *events, int, int timeout_ms) {
  enter_system();
  const auto epoll = std::dynamic_pointer_cast<Epoll>(shared_descriptor(fd));
  std::shared_ptr<Watch> watch = epoll->take();
  if (watch == nullptr && timeout_ms != 0)
    wait_until([&] { return (watch = epoll->take()) != nullptr; }, due_after(timeout_ms));
  if (watch == nullptr)
    return 0;
  const std::shared_ptr<Descriptor> whose = watch->whose.lock();
  events->events = whose ? watch->told_of(whose->events()) : 0; // what it was may be over
  events->data = watch->data;
  if ((watch->events & EPOLLONESHOT) != 0)
    watch->is_armed = false;
  return 1;
}

int __wrap_fstat(int, struct stat *status) {
  *status = {};
  status->st_mode = S_IFSOCK;
  return 0;
}
int __wrap_getsockopt(int, int, int, void *value, socklen_t *) {
  const int domain = AF_UNIX;
  memcpy(value, &domain, sizeof domain);
  return 0;
}
int __wrap_setsockopt(int fd, int, int, const void *value, socklen_t) {
  timeval patience{};
  memcpy(&patience, value, sizeof patience); // SO_SNDTIMEO
  const int64_t ns = patience.tv_sec * 1'000'000'000 + patience.tv_usec * 1000;
  socket_at(fd).send_patience_ns = ns > 0 ? ns : NEVER;
  return 0;
}
int __wrap_fcntl(int, int command, ...) {
  return command == F_GETFL ? O_RDWR : 0;
}
int __wrap_ioctl(int fd, unsigned long, int *unread) {
  enter_system();
  *unread = static_cast<int>(socket_at(fd).out->size());
  return 0;
}
// Uncopied pages are not simulated: what needs pipes for them does without.
int __wrap_pipe2(int *, int) {
  return static_cast<int>(answer(-EMFILE));
}

void *__real_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *wanted, size_t length, int protection, int flags, int fd, off_t offset) {
  if (!is_run_going_on()) // what the process keeps for ever
    return __real_mmap(wanted, length, protection, flags, fd, offset);
  enter_system();
  if (refuse_memory_one_in > 0 && random_of_run().one_in(refuse_memory_one_in)) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  if (next_address + length > AREA + AREA_BYTES)
    fail("the simulation has no addresses left");
  void *const at = reinterpret_cast<void *>(next_address);
  next_address += (length + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
  mapped += static_cast<int64_t>(length);
  return __real_mmap(at, length, protection, flags | MAP_FIXED, fd, offset);
}
// The address is not used again: who still does will crash.
int __real_munmap(void *memory, size_t length);
int __wrap_munmap(void *memory, size_t length) {
  enter_system();
  mapped -= static_cast<int64_t>(length);
  return __real_munmap(memory, length);
}
}
