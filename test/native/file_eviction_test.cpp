// Flushes of the file plugin's cache=none, when the system fails to write out and says so once.
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

using std::atomic_int; // which <stdatomic.h> has in C alone
using std::atomic_uint;

extern "C" {
#include "plugins/file-eviction.h"
}

#include "support.hpp"

namespace {

constexpr int FD = -1; // the system is not asked

// What the system answers next, once.
std::atomic<int> write_out_error{0};
std::atomic<int> sync_error{0};
std::atomic<unsigned> syncs{0};
// Who writes out is held inside, if there is a gate.
std::atomic<Gate *> held{nullptr};
bool is_inside = false;
bool may_return = false;

int answer(std::atomic<int> &next) {
  const int error = next.exchange(0);
  errno = error;
  return error == 0 ? 0 : -1;
}

struct Handle : file_eviction {
  explicit Handle(file_eviction_errors *shared = nullptr) : file_eviction{} {
    file_eviction_begin(this, shared);
  }
  ~Handle() { file_eviction_end(this, FD); }
  Handle(const Handle &) = delete;
  Handle &operator=(const Handle &) = delete;

  void write() { file_eviction_write(this, FD, 4096, 0); }
  int flush() { return file_eviction_flush(this, FD); }
};

struct SharedErrors : file_eviction_errors {
  SharedErrors() : file_eviction_errors{} { file_eviction_errors_begin(this); }
  ~SharedErrors() { file_eviction_errors_end(this); }
  SharedErrors(const SharedErrors &) = delete;
  SharedErrors &operator=(const SharedErrors &) = delete;
};

} // namespace

// In place of the C library's, as the program's own come first.
extern "C" int sync_file_range(int, off64_t, off64_t, unsigned) {
  const int result = answer(write_out_error);
  const int error = errno;
  if (Gate *gate = held.load()) {
    gate->change([] { is_inside = true; });
    gate->wait([] { return may_return; });
  }
  errno = error;
  return result;
}

extern "C" int fdatasync(int) {
  syncs++;
  return answer(sync_error);
}

TEST_CASE("what could not be written out fails the next flush, once") {
  Handle handle;
  write_out_error = ENOSPC;
  handle.write();
  CHECK(handle.flush() == ENOSPC);
  CHECK(handle.flush() == 0);
  sync_error = EIO;
  CHECK(handle.flush() == EIO);
  CHECK(handle.flush() == 0);
}

TEST_CASE("what is no failure to write out fails nothing") {
  Handle handle;
  for (const int error : {ESPIPE, EINVAL, ENOSYS, EINTR}) {
    write_out_error = error;
    handle.write();
    CHECK(handle.flush() == 0);
  }
}

TEST_CASE("all who share an opened file are told, whoever was told by the system") {
  SharedErrors errors;
  Handle a(&errors);
  Handle b(&errors);
  write_out_error = EIO;
  a.write();
  CHECK(b.flush() == EIO);
  CHECK(a.flush() == EIO);
  sync_error = ENOSPC;
  CHECK(a.flush() == ENOSPC);
  CHECK(b.flush() == ENOSPC);
  CHECK(a.flush() == 0);
  CHECK(b.flush() == 0);
  write_out_error = EIO;
  a.write();
  Handle late(&errors); // nothing of its is lost
  CHECK(late.flush() == 0);
}

TEST_CASE("a flush knows what another handle was told before it") {
  SharedErrors errors;
  Handle a(&errors);
  Handle b(&errors);
  Gate gate;
  held = &gate;
  write_out_error = EIO;
  std::thread writer([&] { a.write(); });
  REQUIRE(gate.wait([] { return is_inside; }));
  const unsigned syncs_before = syncs;
  std::thread flusher([&] { CHECK(b.flush() == EIO); });
  while (syncs == syncs_before)
    std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20)); // in which it could return
  gate.change([] { may_return = true; });
  writer.join();
  flusher.join();
  held = nullptr;
}
