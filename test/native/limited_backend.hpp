// A disk in memory that leaves much to the emulation above it, notes what it is asked, and answers
// in one of the ways that there are.
#pragma once

#include <deque>
#include <sstream>
#include <string>
#include <vector>

#include "base/thread_pool.hpp"
#include "memory_backend.hpp"
#include "simulation.hpp"

// When requests are answered, and on which thread.
enum class Answers { inside_submit, later, on_other_threads };

struct LimitedDisk : MemoryDisk {
  using MemoryDisk::MemoryDisk;

  // What it says of itself to who opens it next.
  asyncnbd::backend::Support zero = asyncnbd::backend::Support::native;
  asyncnbd::backend::Support fua = asyncnbd::backend::Support::native;
  asyncnbd::backend::Support cache = asyncnbd::backend::Support::native;
  bool can_extents = true;
  asyncnbd::backend::CallLimits limits;
  asyncnbd::backend::BlockSizes binding_sizes;
  bool copies_writes = false;

  std::vector<std::string> calls;
  std::vector<const asyncnbd::backend::Request *> requests;
  std::deque<asyncnbd::backend::Request *> held;
  bool is_completing = false; // by the test, of what it answers later
  unsigned submits_in_completions = 0;
  std::vector<uint16_t> reserved_flags; // of each reservation's request
};

class LimitedBackend final : public MemoryBackend {
public:
  LimitedBackend(LimitedDisk &disk, Answers answers, asyncnbd::base::Threads &threads)
      : MemoryBackend(disk), limited_(disk), answers_(answers), threads_(threads) {
    told_.zero = disk.zero;
    told_.fua = disk.fua;
    told_.cache = disk.cache;
    told_.can_extents = disk.can_extents;
    told_.call_limits = disk.limits;
    told_.block_sizes = disk.binding_sizes;
    told_.block_sizes_bind = disk.binding_sizes.maximum > 0;
  }

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    return limited_.copies_writes && type == asyncnbd::wire::NBD_CMD_WRITE
               ? static_cast<uint32_t>(length_bytes)
               : 0;
  }
  asyncnbd::backend::Reservation reserve(Request &request) override {
    limited_.reserved_flags.push_back(request.flags);
    return MemoryBackend::reserve(request);
  }
  void submit(Request &request, asyncnbd::backend::Caller) override {
    limited_.calls.push_back(words_of(request));
    limited_.requests.push_back(&request);
    limited_.submits_in_completions += limited_.is_completing ? 1 : 0;
    if (answers_ == Answers::inside_submit)
      request.complete(perform(request));
    else if (answers_ == Answers::later)
      limited_.held.push_back(&request);
    else
      threads_.run([this, &request] { request.complete(perform(request)); });
  }
  // Of the first that is held.
  void answer() {
    Request &request = *limited_.held.front();
    limited_.held.pop_front();
    limited_.is_completing = true;
    request.complete(perform(request));
    limited_.is_completing = false;
  }
  void give_up_unanswered() override {
    std::deque<Request *> unanswered;
    unanswered.swap(limited_.held);
    for (Request *request : unanswered)
      request->give_up(ESHUTDOWN);
  }

private:
  // "write 4096+512 fua".
  static std::string words_of(const Request &request) {
    using namespace asyncnbd::wire;
    static const char *const NAMES[] = {"read", "write", "disc",   "flush",
                                        "trim", "cache", "zeroes", "status"};
    std::ostringstream words; // GCC 12 warns of overlaps that are none in sums of strings
    words << NAMES[request.type] << ' ' << request.offset << '+' << request.length_bytes;
    if (request.type == NBD_CMD_BLOCK_STATUS)
      for (const asyncnbd::backend::ContextStatus &status : request.extras->statuses)
        words << " context " << status.context;
    words << ((request.flags & NBD_CMD_FLAG_FUA) != 0 ? " fua" : "")
          << ((request.flags & NBD_CMD_FLAG_FAST_ZERO) != 0 ? " fast" : "");
    return words.str();
  }

  LimitedDisk &limited_;
  const Answers answers_;
  asyncnbd::base::Threads &threads_;
};

// A layer under test in front of such a disk.
template <typename LayerUnderTest> struct LimitedWorld {
  Answers answers = Answers::inside_submit;
  LimitedDisk disk;
  SimulatedThreads threads; // where the layer goes on, unless answers come from other threads
  LimitedBackend *backend = nullptr;
  std::unique_ptr<LayerUnderTest> layer;

  explicit LimitedWorld(size_t size_bytes, Answers how = Answers::inside_submit)
      : answers(how), disk(size_bytes) {}

  // Once the disk has been told what it can do.
  void open() {
    asyncnbd::base::Threads &of_layer = answers == Answers::on_other_threads
                                            ? static_cast<asyncnbd::base::Threads &>(pool())
                                            : threads;
    auto opened = std::make_unique<LimitedBackend>(disk, answers, of_layer);
    backend = opened.get();
    layer = std::make_unique<LayerUnderTest>(std::move(opened), of_layer);
    prepare(*layer);
  }

  // The request's outcome, with what is held answered and tasks run until there is nothing to do.
  int run(TestRequest &request) {
    layer->submit(request, asyncnbd::backend::Caller::may_block);
    if (answers == Answers::later)
      while (!disk.held.empty() || !threads.tasks.empty())
        if (!threads.run_one())
          backend->answer();
    return request.wait();
  }

  // The process's, so never destroyed: threads that have idled end later than a test.
  static asyncnbd::base::ThreadPool &pool() {
    static auto *made = new asyncnbd::base::ThreadPool;
    return *made;
  }
};

inline constexpr Answers ALL_WAYS[] = {Answers::inside_submit, Answers::later,
                                       Answers::on_other_threads};
