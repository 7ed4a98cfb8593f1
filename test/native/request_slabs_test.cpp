// Requests side by side: each has a place of its own, and empty slabs go back to the system.
#include <doctest/doctest.h>

#include <random>
#include <set>
#include <sys/mman.h>
#include <thread>
#include <utility>
#include <vector>

#include "connection/request_slabs.hpp"

using namespace asyncnbd::connection;

namespace {

PendingRequest *make(uint64_t cookie) {
  PendingRequest *request = RequestSlabs::instance().make();
  REQUIRE(request != nullptr);
  request->cookie = cookie;
  request->next = nullptr;
  return request;
}

bool is_mapped(const PendingRequest *request) {
  const uintptr_t page = reinterpret_cast<uintptr_t>(request) & ~uintptr_t{4095};
  return msync(reinterpret_cast<void *>(page), 4096, MS_ASYNC) == 0;
}

} // namespace

TEST_CASE("requests made and ended in any order by many threads never share a place") {
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; t++)
    threads.emplace_back([t] {
      std::mt19937 random(static_cast<unsigned>(t));
      std::vector<PendingRequest *> held;
      for (uint64_t i = 0; i < 20'000; i++) {
        held.push_back(make(t << 32 | i));
        if (random() % 3 == 0) {
          std::swap(held[random() % held.size()], held.back());
          CHECK((held.back()->cookie >> 32) == t);
          destroy(held.back());
          held.pop_back();
        }
      }
      CHECK(std::set<PendingRequest *>(held.begin(), held.end()).size() == held.size());
      for (PendingRequest *request : held) {
        CHECK((request->cookie >> 32) == t);
        destroy(request);
      }
    });
  for (std::thread &thread : threads)
    thread.join();
}

TEST_CASE("the memory of requests that are over goes back to the system") {
  std::vector<PendingRequest *> requests;
  PendingRequest *chain = nullptr;
  for (uint64_t i = 0; i < 10'000; i++) {
    PendingRequest *request = make(i);
    requests.push_back(request);
    request->next = std::exchange(chain, request);
  }
  destroy(chain);
  size_t mapped = 0;
  for (const PendingRequest *request : requests)
    mapped += is_mapped(request) ? 1 : 0;
  CHECK(mapped < 2'000); // a few slabs are kept
  destroy(nullptr);
}
