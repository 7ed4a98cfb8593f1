// torture.cpp by the C++ interface: answers from 8 threads in random order, in every way a read can
// be answered, now and then late, with requests that are moved about, dropped and answered again.
//
// size=BYTES, seed=N. Errors are given to odd multiples of 64 KiB beyond `size / 2` only, so that a
// client can verify the rest. At the end prints what it has done as a "torture: …" line.

#include <nbdkit-async.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <variant>
#include <vector>

namespace {

constexpr unsigned THREADS = 8;
constexpr uint64_t REGION_BYTES = 64 << 10;
// So few that threads run dry and everything is answered soon, so many that the order is random.
constexpr size_t SHUFFLED = 64;

using Request = std::variant<nbdkit::ReadRequest, nbdkit::WriteRequest, nbdkit::FlushRequest>;

class Torture {
public:
  bool config(const std::string &key, const std::string &value) {
    if (key == "seed")
      return nbdkit_parse_unsigned("seed", value.c_str(), &seed_) == 0;
    if (key == "size")
      size_bytes_ = static_cast<uint64_t>(nbdkit::parse_size(value));
    return key == "size";
  }

  void after_fork() {
    disk_.resize(size_bytes_);
    for (unsigned i = 0; i < THREADS; i++)
      threads_.emplace_back([this, i] { work(i); });
  }

  void cleanup() {
    {
      std::lock_guard locked(lock_);
      is_ending_ = true;
      changed_.notify_all();
    }
    for (std::thread &thread : threads_)
      thread.join();
    threads_.clear();
    fprintf(stderr, "torture: %u replies, %u refused, %u repeated, %u repeats accepted\n",
            replies_.load(), refused_.load(), repeated_.load(), repeats_accepted_.load());
  }

  uint64_t get_size() { return size_bytes_; }
  bool can_multi_conn() { return true; }
  void read(nbdkit::ReadRequest request) { later(std::move(request)); }
  void write(nbdkit::WriteRequest request) { later(std::move(request)); }
  void flush(nbdkit::FlushRequest request) { later(std::move(request)); }

private:
  void later(Request request) {
    std::lock_guard locked(lock_);
    requests_.push_back(std::move(request));
    changed_.notify_one();
  }

  void work(unsigned number) {
    std::mt19937 random(seed_ * 100 + number);
    std::unique_lock locked(lock_);
    for (;;) {
      changed_.wait_for(locked, std::chrono::milliseconds(1),
                        [this] { return is_ending_ || requests_.size() >= SHUFFLED; });
      if (requests_.empty() && is_ending_)
        return;
      if (requests_.empty())
        continue;
      std::swap(requests_[random() % requests_.size()], requests_.back());
      Request request = std::move(requests_.back());
      requests_.pop_back();
      locked.unlock();
      if (random() % 64 == 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 20));
      std::visit([&](auto &one) { carry_out(one, random); }, request);
      locked.lock();
    }
  }

  template <class R> void carry_out(R &request, std::mt19937 &random) {
    if (random() % 4 == 0) {
      const nbdkit::Batch together;
      count(answer(request, random));
    } else {
      count(answer(request, random));
    }
    if (random() % 16 != 0)
      return;
    repeated_++;
    if (std::move(request).fail(EIO) || std::move(request).done())
      repeats_accepted_++;
  }

  void count(bool is_accepted) {
    replies_++;
    if (!is_accepted)
      refused_++;
  }

  bool fails(uint64_t offset) const {
    return offset >= size_bytes_ / 2 && (offset / REGION_BYTES) % 2 == 1;
  }
  std::mutex &region_of(uint64_t offset) { return regions_[offset / REGION_BYTES % 256]; }

  bool answer(nbdkit::ReadRequest &request, std::mt19937 &random) {
    if (fails(request.offset())) {
      const nbdkit::ReadRequest dropped(std::move(request));
      return true;
    }
    auto own = std::make_shared<std::vector<uint8_t>>(request.count());
    {
      std::lock_guard locked(region_of(request.offset()));
      memcpy(own->data(), disk_.data() + request.offset(), request.count());
    }
    switch (random() % 3) {
    case 0:
      memcpy(request.buffer().data(), own->data(), request.count());
      return std::move(request).done();
    case 1: {
      const uint8_t *data = own->data();
      return std::move(request).done_lent(
          data, [own = std::move(own)] { std::fill(own->begin(), own->end(), uint8_t{0xee}); });
    }
    default:
      const bool result = std::move(request).done_from(own->data());
      std::fill(own->begin(), own->end(), uint8_t{0xee});
      return result;
    }
  }

  bool answer(nbdkit::WriteRequest &request, std::mt19937 &) {
    try {
      if (fails(request.offset()))
        throw nbdkit::Reported(ENOSPC);
      std::lock_guard locked(region_of(request.offset()));
      memcpy(disk_.data() + request.offset(), request.data().data(), request.count());
    } catch (...) {
      return std::move(request).fail(std::current_exception());
    }
    return std::move(request).done();
  }

  bool answer(nbdkit::FlushRequest &request, std::mt19937 &) { return std::move(request).done(); }

  uint64_t size_bytes_ = 8 << 20;
  unsigned seed_ = 1;
  std::vector<uint8_t> disk_;
  // Requests that overlap in flight have no order, but each byte must be one or the other.
  std::array<std::mutex, 256> regions_;

  std::mutex lock_; // guards the next three
  std::condition_variable changed_;
  std::vector<Request> requests_;
  bool is_ending_ = false;
  std::vector<std::thread> threads_;

  std::atomic<unsigned> replies_{0};
  std::atomic<unsigned> refused_{0};          // the client had gone
  std::atomic<unsigned> repeated_{0};         // answered again
  std::atomic<unsigned> repeats_accepted_{0}; // which must never be
};

} // namespace

NBDKIT_ASYNC_PLUGIN(Torture, "cxxtorture")
