// See hostile.hpp.
#include "hostile.hpp"

#include <cerrno>
#include <chrono>
#include <random>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "client_side.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace ring {

using namespace asyncnbd::wire;

namespace {

// Of what nobody has written.
constexpr RequestEntry A_READ{1, 2 << 20, 512, 0, 512, NBD_CMD_READ, 0};
constexpr RequestEntry A_FLUSH{2, 0, 0, 0, 0, NBD_CMD_FLUSH, 0};

int error_of(ClientSide &side, const RequestEntry &entry) {
  side.submit(entry);
  side.kick();
  const std::optional<Completion> completion = side.wait();
  expect(completion && completion->id == entry.id, "the client of a wrong request is disconnected");
  return static_cast<int>(completion->error);
}

// With a deadline that only a failing test meets.
void wait_for_completed(const Shared &shared, uint32_t count) {
  using std::chrono::steady_clock;
  const steady_clock::time_point deadline = steady_clock::now() + std::chrono::seconds(40);
  while (shared.completed != count) {
    expect(steady_clock::now() < deadline, "not all that is submitted is completed");
    std::this_thread::yield();
  }
}

} // namespace

void try_wrong_requests(const std::string &path) {
  ClientSide side(path, "");
  const uint64_t size = side.welcome().size_bytes;
  const uint32_t all = 1 << 10; // an unassigned flag
  const struct {
    const char *what;
    RequestEntry entry;
    int error;
  } wrong[] = {
      {"an unknown command", {3, 0, 512, 0, 512, 77, 0}, EINVAL},
      {"a command of 16 bits", {3, 0, 512, 0, 512, UINT16_MAX, 0}, EINVAL},
      {"an unknown flag", {3, 0, 512, 0, 512, NBD_CMD_READ, all}, EINVAL},
      {"a durable read", {3, 0, 512, 0, 512, NBD_CMD_READ, NBD_CMD_FLAG_FUA}, EINVAL},
      {"no length", {3, 0, 0, 0, 0, NBD_CMD_READ, 0}, EINVAL},
      {"a read behind the end", {3, size, 512, 0, 512, NBD_CMD_READ, 0}, EINVAL},
      {"a write over the end", {3, size - 1, 512, 0, 512, NBD_CMD_WRITE, 0}, EINVAL},
      {"a range that overflows", {3, UINT64_MAX, 512, 0, 512, NBD_CMD_READ, 0}, EINVAL},
      {"a trim of more than all", {3, 1, UINT64_MAX, 0, 0, NBD_CMD_TRIM, 0}, EINVAL},
      {"a flush of something", {3, 0, 512, 0, 0, NBD_CMD_FLUSH, 0}, EINVAL},
      {"data behind the memory", {3, 0, 512, DATA_BYTES, 512, NBD_CMD_READ, 0}, EFAULT},
      {"data over its end", {3, 0, 512, DATA_BYTES - 511, 512, NBD_CMD_WRITE, 0}, EFAULT},
      {"data that overflow", {3, 0, 512, UINT64_MAX - 256, 512, NBD_CMD_READ, 0}, EFAULT},
      {"too little data", {3, 0, 1024, 0, 512, NBD_CMD_WRITE, 0}, EINVAL},
      {"data of a flush", {3, 0, 0, 0, 512, NBD_CMD_FLUSH, 0}, EINVAL},
      {"a status without room", {3, 0, 512, 0, 8, NBD_CMD_BLOCK_STATUS, 0}, EINVAL},
      {"a status at an odd place", {3, 0, 512, 1, 512, NBD_CMD_BLOCK_STATUS, 0}, EINVAL},
  };
  for (const auto &[what, entry, error] : wrong) {
    const int found = error_of(side, entry);
    expect(found == error, std::string(what) + " gets " + std::to_string(found));
  }
  // Memory that another request has is refused: this read waits, that one overlaps it.
  side.submit(A_READ);
  side.submit({4, A_READ.offset, 1024, 256, 1024, NBD_CMD_READ, 0});
  side.kick();
  std::optional<Completion> completion = side.wait();
  expect(completion && completion->id == 4 && completion->error == EBUSY, "memory is shared");
  completion = side.wait();
  expect(completion && completion->id == A_READ.id && completion->error == 0, "no read");
}

void try_wrong_indices(const std::string &path) {
  for (const uint32_t submitted : {ENTRIES + 1, UINT32_MAX, 1U << 31}) {
    ClientSide side(path, "");
    side.shared().submitted.store(submitted);
    side.kick();
    side.wait_for_end();
  }
  for (const uint32_t consumed : {1U, UINT32_MAX - ENTRIES, 1U << 31}) { // what is not completed
    ClientSide side(path, "");
    side.shared().consumed.store(consumed);
    side.kick();
    side.wait_for_end();
  }
  {
    ClientSide side(path, "");
    side.submit(A_READ); // has been taken and takes some time, when it is said to be consumed
    side.kick();
    side.submit(A_FLUSH);
    side.kick();
    expect(side.wait()->id == A_FLUSH.id, "the read does not take some time");
    side.shared().consumed.store(2);
    side.kick();
    side.wait_for_end();
  }
  // A client that consumes nothing gets as many completions as there is room for, and the next when
  // it does.
  ClientSide side(path, "");
  for (uint32_t i = 0; i < ENTRIES; i++)
    side.submit(A_FLUSH);
  side.kick();
  wait_for_completed(side.shared(), ENTRIES);
  side.submit({5, 0, 0, 0, 0, NBD_CMD_FLUSH, 0});
  side.kick();
  for (uint32_t i = 0; i < ENTRIES; i++) {
    const std::optional<Completion> completion = side.wait();
    expect(completion && completion->id == A_FLUSH.id, "a completion is written over");
  }
  side.kick();
  const std::optional<Completion> completion = side.wait();
  expect(completion && completion->id == 5, "what has waited for room is lost");
}

void try_wrong_words(const std::string &path) {
  {
    ClientSide side(path, "");
    expect(send(side.socket(), "?", 1, MSG_NOSIGNAL) == 1, "send");
    side.wait_for_end();
  }
  ClientSide side(path, "");
  expect(ftruncate(side.memory_fd(), 0) == -1 && errno == EPERM, "the memory can be taken away");
  // Who says that it sleeps and never looks is told so as long as its socket has room.
  side.shared().sleeps.store(1);
  for (uint32_t i = 1; i <= 1000; i++) {
    side.submit(A_FLUSH);
    side.kick();
    wait_for_completed(side.shared(), i);
    expect(side.wait().has_value(), "disconnected for being slow");
    side.shared().sleeps.store(1);
  }
}

namespace {

// Over a request, of which the server may be in the middle: with some care, so that many pass.
void scribble_request(std::atomic<uint64_t> *words, std::mt19937_64 &random) {
  const uint64_t length_bytes = 1 + random() % 2048;
  const uint64_t type = random() % 8;
  const uint64_t flags = random() % 8 == 0 ? random() : 0;
  words[0] = random();
  words[1] = random() % (1 << 20);
  words[2] = random() % 4 == 0 ? random() : type == NBD_CMD_FLUSH ? 0 : length_bytes;
  words[3] = random() % 4 == 0 ? random() : random() % DATA_BYTES;
  words[4] = length_bytes | type << 32 | flags << 48;
}

void scribble_until(const std::atomic<bool> &is_enough, Shared &shared, uint64_t seed) {
  std::mt19937_64 random(seed);
  auto *words = reinterpret_cast<std::atomic<uint64_t> *>(&shared);
  constexpr size_t REQUESTS = offsetof(Shared, requests) / sizeof(uint64_t);
  constexpr size_t COMPLETIONS = offsetof(Shared, completions) / sizeof(uint64_t);
  constexpr size_t ENTRY = sizeof(RequestEntry) / sizeof(uint64_t);
  while (!is_enough) {
    scribble_request(words + REQUESTS + random() % ENTRIES * ENTRY, random);
    words[COMPLETIONS + random() % ENTRIES] = random();
    shared.data[random() % DATA_BYTES] = static_cast<uint8_t>(random());
    shared.sleeps = static_cast<uint32_t>(random());
  }
}

} // namespace

void scribble(const std::string &path, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (int client = 0; client < 10; client++) {
    ClientSide side(path, "");
    std::atomic<bool> is_enough{false};
    std::thread scribbler(
        [&side, &is_enough, seed] { scribble_until(is_enough, side.shared(), seed); });
    uint32_t submitted = 0;
    for (int round = 0; round < 25; round++) {
      submitted += 1 + static_cast<uint32_t>(random() % ENTRIES);
      side.shared().submitted = submitted;
      side.kick();
      wait_for_completed(side.shared(), submitted);
      side.shared().consumed = submitted;
    }
    // At last, over the indices as well.
    side.shared().submitted = static_cast<uint32_t>(random());
    side.shared().consumed = static_cast<uint32_t>(random());
    side.shared().completed = static_cast<uint32_t>(random());
    side.kick();
    is_enough = true;
    scribbler.join();
  }
}

} // namespace ring
