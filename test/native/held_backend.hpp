// An asynchronous plugin as layers see it: keeps what it is asked until a test answers.
#pragma once

#include <deque>
#include <mutex>

#include "memory_backend.hpp"

class HeldBackend final : public MemoryBackend {
public:
  // Of all clients.
  struct Held {
    std::deque<Request *> requests;
    Gate gate;
    std::mutex plugins_lock; // a plugin's, in each of its callbacks
    std::atomic<unsigned> clients_gone{0};

    // The next one, once it is there.
    Request *take() {
      Request *request = nullptr;
      REQUIRE(gate.wait([&] { return !requests.empty(); }));
      gate.change([&] {
        request = requests.front();
        requests.pop_front();
      });
      return request;
    }
  };

  // `can_multi_conn`: whether a flush is for what all clients have written.
  HeldBackend(MemoryDisk &disk, Held &held, bool can_multi_conn = true)
      : MemoryBackend(disk), held_(held) {
    told_.can_multi_conn = can_multi_conn;
    told_.thread_model = asyncnbd::backend::ThreadModel::async;
  }

  asyncnbd::backend::Reservation reserve(Request &) override { return {}; }
  void submit(Request &request, asyncnbd::backend::Caller) override {
    const std::lock_guard lock(held_.plugins_lock);
    held_.gate.change([&] { held_.requests.push_back(&request); });
  }
  void on_client_gone() override { held_.clients_gone++; }
  void answer(Request &request) { request.complete(perform(request)); }

  void give_up_unanswered() override {
    std::deque<Request *> unanswered;
    held_.gate.change([&] { unanswered.swap(held_.requests); });
    for (Request *request : unanswered)
      request->give_up(ESHUTDOWN);
  }

private:
  Held &held_;
};
