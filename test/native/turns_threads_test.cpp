// Turns at a plugin that several threads want at once.
#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "support.hpp"
#include "system_resources.hpp"
#include "turns_world.hpp"

using namespace asyncnbd;
using namespace asyncnbd::backend;

namespace {

// So many exports of one plugin.
std::vector<std::unique_ptr<Turns>> open_exports(size_t count,
                                                 const std::function<void(Request &)> &call,
                                                 const std::shared_ptr<TurnQueue> &queue) {
  std::vector<std::unique_ptr<Turns>> exports;
  while (exports.size() < count)
    exports.push_back(std::make_unique<Turns>(std::make_unique<Plugin>(call), queue));
  return exports;
}

} // namespace

TEST_CASE("an event loop that answers later never gets two requests of one plugin") {
  constexpr size_t EXPORTS = 3;
  constexpr size_t REQUESTS = 3000;
  auto queue = std::make_shared<TurnQueue>(1, 0, system_resources().of_backends);
  std::mutex mutex;
  std::vector<Request *> posted; // to the loop
  std::atomic<int> inside{0};
  std::atomic<bool> has_overlapped{false};
  auto call = [&](Request &request) {
    if (++inside > 1)
      has_overlapped = true;
    std::lock_guard lock(mutex);
    posted.push_back(&request);
  };
  Client client;
  const auto exports = open_exports(EXPORTS, call, queue);
  std::vector<Request> requests(EXPORTS * REQUESTS);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < EXPORTS; i++)
    threads.emplace_back([&, i] {
      for (size_t j = 0; j < REQUESTS; j++) {
        Request &request = requests[i * REQUESTS + j];
        request.completers.reset(client);
        exports[i]->submit(request, j % 2 == 0 ? Caller::must_not_block : Caller::may_block);
      }
    });
  size_t answered = 0;
  while (answered < requests.size()) {
    std::vector<Request *> batch;
    {
      std::lock_guard lock(mutex);
      batch.swap(posted);
    }
    for (Request *request : batch) {
      answered++;
      inside--;
      request->complete(0);
    }
    if (batch.empty())
      std::this_thread::yield();
  }
  for (std::thread &thread : threads)
    thread.join();
  for (const std::unique_ptr<Turns> &one : exports)
    one->close();
  CHECK_FALSE(has_overlapped.load());
  CHECK(client.answered.size() == requests.size());
}

TEST_CASE("threads and requests of several exports never exceed the turns of their plugin") {
  constexpr size_t EXPORTS = 4;
  constexpr size_t REQUESTS = 2000;
  for (const unsigned most : {1u, 3u}) {
    auto queue = std::make_shared<TurnQueue>(most, most, system_resources().of_backends);
    std::atomic<unsigned> inside{0};
    std::atomic<unsigned> most_inside{0};
    auto call = [&](Request &request) {
      const unsigned now = ++inside;
      unsigned seen = most_inside.load();
      while (seen < now && !most_inside.compare_exchange_weak(seen, now)) {
      }
      inside--;
      request.complete(0);
    };
    Client client;
    const auto exports = open_exports(EXPORTS, call, queue);
    std::vector<Request> requests(EXPORTS * REQUESTS);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < EXPORTS; i++)
      threads.emplace_back([&, i] {
        for (size_t j = 0; j < REQUESTS; j++) {
          Request &request = requests[i * REQUESTS + j];
          request.completers.reset(client);
          exports[i]->submit(request,
                             (i + j) % 3 == 0 ? Caller::must_not_block : Caller::may_block);
        }
      });
    threads.emplace_back([&] {
      for (size_t j = 0; j < REQUESTS; j++) {
        std::lock_guard turn(*queue);
        const unsigned now = ++inside;
        CHECK(now <= most);
        inside--;
      }
    });
    for (std::thread &thread : threads)
      thread.join();
    client.wait_for(requests.size());
    for (const std::unique_ptr<Turns> &one : exports)
      one->close();
    CHECK(most_inside.load() <= most);
    CHECK(client.answered.size() == requests.size());
  }
}
