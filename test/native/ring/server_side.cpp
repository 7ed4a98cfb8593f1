// See server_side.hpp.
#include "server_side.hpp"

#include <fcntl.h>
#include <new>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

namespace ring {

std::unique_ptr<ServerSide> ServerSide::make() {
  const int memory_fd = memfd_create("ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  const int kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  void *mapped = MAP_FAILED;
  // Sealed before anybody else has it: memory that ends kills who reads it by SIGBUS.
  if (memory_fd != -1 && kick_fd != -1 && ftruncate(memory_fd, sizeof(Shared)) == 0 &&
      fcntl(memory_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
    mapped = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
  if (mapped == MAP_FAILED) {
    close(memory_fd);
    close(kick_fd);
    return nullptr;
  }
  return std::unique_ptr<ServerSide>(
      new ServerSide(memory_fd, kick_fd, static_cast<Shared *>(mapped)));
}

ServerSide::~ServerSide() {
  munmap(shared_, sizeof(Shared));
  close(memory_fd_);
  close(kick_fd_);
}

ServerSide::Look ServerSide::take(RequestEntry *entry) {
  const uint32_t submitted = shared_->submitted.load(std::memory_order_acquire);
  const uint32_t consumed = shared_->consumed.load(std::memory_order_acquire);
  // What is taken or waits to be, and what is completed or waits to be seen, has a place: so there
  // are never more in flight than entries.
  if (submitted - taken_ > ENTRIES || taken_ - consumed > ENTRIES ||
      completed_.load(std::memory_order_relaxed) - consumed > ENTRIES)
    return Look::broken;
  if (submitted == taken_ || taken_ - consumed == ENTRIES)
    return Look::nothing;
  *entry = shared_->requests[taken_ % ENTRIES].load();
  taken_++;
  return Look::request;
}

bool ServerSide::has_more() const {
  return shared_->submitted.load(std::memory_order_relaxed) != taken_;
}

bool ServerSide::complete(const Completion &completion) {
  const uint32_t completed = completed_.load(std::memory_order_relaxed);
  shared_->completions[completed % ENTRIES].store(completion);
  completed_.store(completed + 1, std::memory_order_relaxed);
  shared_->completed.store(completed + 1);
  return shared_->sleeps.load() != 0;
}

} // namespace ring
