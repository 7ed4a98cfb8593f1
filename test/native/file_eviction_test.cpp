// Flushes of the file plugin's cache=none, when the system fails to write out and says so once.
#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

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
// Holds the next call inside, after the system has told it.
struct Hold {
  Gate gate;
  bool is_inside = false;
  bool may_return = false;

  void wait_inside() {
    gate.change([this] { is_inside = true; });
    gate.wait([this] { return may_return; });
  }
};
std::atomic<Hold *> held_write_out{nullptr};
std::atomic<Hold *> held_sync{nullptr};

int answer(std::atomic<int> &next, std::atomic<Hold *> &held) {
  const int error = next.exchange(0);
  if (Hold *hold = held.exchange(nullptr))
    hold->wait_inside();
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
  return answer(write_out_error, held_write_out);
}

extern "C" int fdatasync(int) {
  syncs++;
  return answer(sync_error, held_sync);
}

TEST_CASE("a page that could not be written out fails the next flush, once") {
  Handle handle;
  write_out_error = ENOSPC;
  handle.write();
  CHECK(handle.flush() == ENOSPC);
  CHECK(handle.flush() == 0);
  sync_error = EIO;
  CHECK(handle.flush() == EIO);
  CHECK(handle.flush() == 0);
}

TEST_CASE("other errors do not fail a flush") {
  Handle handle;
  for (const int error : {ESPIPE, EINVAL, ENOSYS, EINTR}) {
    write_out_error = error;
    handle.write();
    CHECK(handle.flush() == 0);
  }
}

TEST_CASE("all sharers of an open file get the error, whichever of them the system told") {
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

TEST_CASE("a flush knows of an error that another handle was told before") {
  const std::vector<std::pair<std::atomic<Hold *> *, std::atomic<int> *>> calls = {
      {&held_write_out, &write_out_error}, {&held_sync, &sync_error}};
  for (const auto &[held, error] : calls) {
    SharedErrors errors;
    Handle a(&errors);
    Handle b(&errors);
    Hold hold;
    *error = EIO;
    *held = &hold;
    std::thread first([&a, is_write = held == &held_write_out] {
      if (is_write)
        a.write();
      else
        a.flush();
    });
    REQUIRE(hold.gate.wait([&] { return hold.is_inside; }));
    const unsigned syncs_before = syncs;
    std::thread second([&] { CHECK(b.flush() == EIO); });
    while (syncs == syncs_before)
      std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20)); // in which it could return
    hold.gate.change([&] { hold.may_return = true; });
    first.join();
    second.join();
  }
}
