// A client of ring_server, in a process of its own:
//
//   ring_client SOCKET model SEED REQUESTS CLIENTS  random requests, checked against a model;
//                                                   prints how many have failed
//   ring_client SOCKET die SEED                     is killed with requests in flight
//   ring_client SOCKET abandon OFFSET               the same, with a read that is never answered
//   ring_client SOCKET wrong SEED                   does all that a client must not do
//   ring_client SOCKET scribble SEED                writes anything over what is shared
//   ring_client SOCKET overtake OFFSET              a read there takes its time, others do not
//   ring_client SOCKET idle CLIENTS                 says that it is connected, and is until the
//                                                   server hangs up

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "hostile.hpp"
#include "model.hpp"
#include "wire/commands.hpp"

using namespace ring;

namespace {

// It ends then, whatever it waits for.
constexpr unsigned DEADLINE_SECONDS = 600;

uint64_t number(const char *word) {
  return strtoull(word, nullptr, 10);
}

// Each has a part of the disk of its own.
void run_models(const std::string &path, uint64_t seed, unsigned requests, unsigned clients) {
  std::atomic<unsigned> failed{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < clients; i++)
    threads.emplace_back([&, i] {
      ClientSide side(path, "");
      Model model(side, i * Model::SECTORS, seed * 1000 + i);
      expect(model.run(requests) && model.verify(), "the server has hung up");
      failed += model.failed();
    });
  for (std::thread &thread : threads)
    thread.join();
  printf("%u failed\n", failed.load());
}

// One of its threads has requests in flight whenever that may be.
void die(const std::string &path, uint64_t seed) {
  ClientSide side(path, "");
  std::thread killer([&side, seed] {
    while (side.shared().completed.load() < 50 + seed % 1000)
      std::this_thread::yield();
    kill(getpid(), SIGKILL);
  });
  // Not where others are soon: what it has asked for may be done after its end.
  const uint64_t part = 1 + seed % 5;
  Model(side, part * Model::SECTORS, seed).run(UINT32_MAX);
  fail("survived");
}

// That the second is done first says that another thread has led while a call lasted.
void overtake(const std::string &path, uint64_t offset) {
  ClientSide side(path, "");
  side.submit({1, offset, 512, 0, 512, asyncnbd::wire::NBD_CMD_READ, 0});
  side.submit({2, 0, 512, 4096, 512, asyncnbd::wire::NBD_CMD_READ, 0});
  side.kick();
  for (const uint64_t id : {2, 1}) {
    const std::optional<Completion> completion = side.wait();
    expect(completion && completion->id == id && completion->error == 0, "they are in order");
  }
}

void abandon(const std::string &path, uint64_t offset) {
  ClientSide side(path, "");
  side.submit({1, offset, 512, 0, 512, asyncnbd::wire::NBD_CMD_READ, 0});
  side.submit({2, 0, 512, 4096, 512, asyncnbd::wire::NBD_CMD_READ, 0});
  side.kick();
  const std::optional<Completion> completion = side.wait();
  expect(completion && completion->id == 2, "the first has been answered");
  kill(getpid(), SIGKILL);
}

void be_wrong(const std::string &path, uint64_t seed) {
  ClientSide good(path, "");
  Model model(good, 0, seed);
  expect(model.run(20), "no start");
  try_wrong_requests(path);
  try_wrong_indices(path);
  try_wrong_words(path);
  expect(model.run(20), "a client is disconnected for another one's faults");
}

void be_random(const std::string &path, uint64_t seed) {
  ClientSide good(path, "");
  scribble(path, seed);
  // It wrote anywhere in the first MiB.
  Model model(good, 2 << 11, seed);
  expect(model.run(100) && model.verify(), "a client is disconnected for another one's faults");
}

void idle(const std::string &path, uint64_t clients) {
  std::list<ClientSide> sides;
  while (sides.size() < clients)
    sides.emplace_back(path, "");
  puts("connected");
  fflush(stdout);
  for (ClientSide &side : sides)
    side.wait_for_end();
}

} // namespace

int main(int argc, char **argv) {
  expect(argc >= 3, "expected a socket and what to do");
  alarm(DEADLINE_SECONDS);
  const std::string path = argv[1];
  const std::string what = argv[2];
  const uint64_t seed = argc > 3 ? number(argv[3]) : 0;
  if (what == "model" && argc == 6)
    run_models(path, seed, static_cast<unsigned>(number(argv[4])),
               static_cast<unsigned>(number(argv[5])));
  else if (what == "die")
    die(path, seed);
  else if (what == "abandon")
    abandon(path, seed);
  else if (what == "wrong")
    be_wrong(path, seed);
  else if (what == "scribble")
    be_random(path, seed);
  else if (what == "overtake")
    overtake(path, seed);
  else if (what == "idle")
    idle(path, seed);
  else
    fail("what is " + what + "?");
  return 0;
}
