// A layer that is nobody's friend: from a seed it passes requests on at once or from another
// thread, answers in each way there is, at once or late, refuses or abandons reservations, gives up
// what it holds and goes on using it. It checks that others keep the contract.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "backend/layer.hpp"
#include "base/threads.hpp"
#include "support.hpp"
#include "wire/commands.hpp"

// What goes wrong below, on any thread: the test looks at its end.
struct Faults {
  std::atomic<unsigned> changed_fields{0};
  std::atomic<unsigned> submits_in_completions{0};
};

// How many completions the calling thread is inside of: nobody may submit from there.
inline thread_local unsigned completions_of_this_thread = 0;

class HostileLayer final : public asyncnbd::backend::Layer, private asyncnbd::backend::Completer {
public:
  using Request = asyncnbd::backend::Request;
  using Answer = asyncnbd::backend::Answer;
  using Caller = asyncnbd::backend::Caller;

  // `holds`: while it is true requests stay here, until they are given up.
  HostileLayer(std::unique_ptr<asyncnbd::backend::Backend> opened, uint32_t seed,
               asyncnbd::base::Threads &threads, Faults &faults, const std::atomic<bool> &holds)
      : Layer(std::move(opened)), threads_(threads), faults_(faults), holds_(holds), random_(seed) {
  }

  asyncnbd::backend::Reservation reserve(Request &request) override {
    const unsigned choice = draw(4);
    if (choice == 0)
      return {};
    asyncnbd::backend::Reservation reservation = below().reserve(request);
    if (choice > 1)
      return reservation;
    if (reservation.data != nullptr && request.type == asyncnbd::wire::NBD_CMD_WRITE)
      below().unreserve(request);
    return {};
  }
  void unreserve(Request &request) override { below().unreserve(request); }

  void submit(Request &request, Caller caller) override {
    faults_.submits_in_completions += completions_of_this_thread > 0 ? 1 : 0;
    if (keeps(request))
      return;
    REQUIRE(request.completers.push(*this, new Fields(request)));
    if (draw(3) > 0)
      below().submit(request, caller);
    else
      elsewhere([this, &request] { below().submit(request, Caller::must_not_block); });
  }

  // What it holds it gives up, and goes on writing to before it lets go of it.
  void give_up_unanswered() override {
    std::vector<Request *> held;
    {
      std::lock_guard lock(mutex_);
      has_given_up_ = true; // what comes later from layers in front passes
      held.swap(held_);
    }
    for (Request *request : held) {
      elsewhere([request] {
        if (request->type == asyncnbd::wire::NBD_CMD_READ)
          memset(request->data, 0xee, request->length_bytes);
        request->completers.maker().release(*request);
      });
      request->give_up(ESHUTDOWN);
    }
    below().give_up_unanswered();
  }

private:
  bool collect(const asyncnbd::backend::Wanted &wanted, asyncnbd::backend::Facts *facts,
               std::string *error) override {
    if (!Layer::collect(wanted, facts, error))
      return false;
    facts->thread_model = asyncnbd::backend::ThreadModel::async;
    return true;
  }
  struct Fields {
    explicit Fields(const Request &request)
        : offset(request.offset), length_bytes(request.length_bytes), type(request.type),
          flags(request.flags), data(request.data), is_reserved(request.is_reserved) {}
    bool operator==(const Fields &) const = default;

    uint64_t offset;
    uint64_t length_bytes;
    uint16_t type;
    uint16_t flags;
    const uint8_t *data;
    bool is_reserved;
  };

  unsigned draw(unsigned choices) {
    std::lock_guard lock(mutex_);
    return random_() % choices;
  }

  bool keeps(Request &request) {
    std::lock_guard lock(mutex_);
    const bool is_kept = holds_ && !has_given_up_ && random_() % 2 == 0 && !request.is_reserved;
    if (is_kept)
      held_.push_back(&request);
    return is_kept;
  }

  void elsewhere(std::function<void()> task) {
    // A new thread stands in where the system has none to spare, so that nothing is lost.
    if (!threads_.run(task))
      task();
  }

  void check(Request &request) {
    const std::unique_ptr<Fields> sent(static_cast<Fields *>(request.completers.pop(*this)));
    faults_.changed_fields += *sent == Fields(request) ? 0 : 1;
  }

  void complete(Request &request, int error) override {
    completions_of_this_thread++;
    check(request);
    const bool has_data = error == 0 && request.type == asyncnbd::wire::NBD_CMD_READ &&
                          !request.is_reserved && !request.pages;
    if (has_data)
      change_answer(request);
    if (draw(3) > 0 || request.answer.kind == Answer::Kind::borrowed) {
      request.complete(error);
      lent_for_now_.reset();
    } else {
      elsewhere([&request, error] { request.complete(error); });
    }
    completions_of_this_thread--;
  }

  void give_up(Request &request, int error) override {
    check(request);
    request.give_up(error);
  }

  // The same data, elsewhere; where they were, there is something else then.
  void change_answer(Request &request) {
    const unsigned choice = draw(3);
    if (choice == 0 && request.answer.kind != Answer::Kind::borrowed)
      return;
    const uint8_t *from = request.answer.is_elsewhere() ? request.answer.data : request.data;
    auto *copy = new uint8_t[request.length_bytes];
    memcpy(copy, from, request.length_bytes);
    if (request.answer.give_back != nullptr)
      request.answer.give_back(request.answer.opaque);
    memset(request.data, 0xdd, request.length_bytes);
    if (choice == 1) {
      lent_for_now_.reset(copy);
      request.answer = {Answer::Kind::borrowed, copy};
    } else {
      auto give_back = [](void *opaque) { delete[] static_cast<uint8_t *>(opaque); };
      request.answer = {Answer::Kind::lent, copy, give_back, copy};
    }
  }

  asyncnbd::base::Threads &threads_;
  Faults &faults_;
  const std::atomic<bool> &holds_;
  static inline thread_local std::unique_ptr<uint8_t[]> lent_for_now_; // while `complete` runs
  std::mutex mutex_;                                                   // guards the rest
  bool has_given_up_ = false;
  std::mt19937 random_;
  std::vector<Request *> held_;
};
