// A disk in memory in C++, whose requests are carried out by one thread: the smallest useful
// example of the asynchronous thread model. Member functions only queue requests. In place of the
// thread there could be an event loop, a pool, or a library with callbacks.
//
//     g++ -std=c++17 -fPIC -shared -I native/include examples/async-ramdisk.cpp -o async-ramdisk.so
//     asyncnbd ./async-ramdisk.so size=64M

#include <nbdkit-async.hpp>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

namespace {

using Request = std::variant<nbdkit::ReadRequest, nbdkit::WriteRequest>;

class Ramdisk {
public:
  static constexpr const char *config_help =
      "size=<SIZE>             Size of the disk, 64M by default.";
  static constexpr const char *magic_config_key = "size";

  bool config(const std::string &key, const std::string &value) {
    if (key != "size")
      return false;
    size_bytes_ = static_cast<size_t>(nbdkit::parse_size(value));
    return true;
  }

  // Threads cannot start earlier: a server that goes to the background becomes another process.
  void after_fork() {
    disk_.resize(size_bytes_);
    thread_ = std::thread([this] { work(); });
  }

  // Called after the last request, even if after_fork was not called or has failed.
  void cleanup() {
    {
      std::lock_guard lock(mutex_);
      is_ending_ = true;
      wake_.notify_one();
    }
    if (thread_.joinable())
      thread_.join();
  }

  uint64_t get_size() { return size_bytes_; }

  void read(nbdkit::ReadRequest request) { queue(std::move(request)); }
  void write(nbdkit::WriteRequest request) { queue(std::move(request)); }

private:
  void queue(Request request) {
    std::lock_guard lock(mutex_);
    requests_.push_back(std::move(request));
    wake_.notify_one();
  }

  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return is_ending_ || !requests_.empty(); });
      if (requests_.empty())
        return;
      Request request = std::move(requests_.front());
      requests_.pop_front();
      lock.unlock(); // while answering, hold no lock that a member function takes
      std::visit([this](auto &one) { carry_out(one); }, request);
    }
  }

  void carry_out(nbdkit::ReadRequest &request) {
    memcpy(request.buffer().data(), &disk_[request.offset()], request.count());
    std::move(request).done();
  }

  void carry_out(nbdkit::WriteRequest &request) {
    memcpy(&disk_[request.offset()], request.data().data(), request.count());
    std::move(request).done();
  }

  size_t size_bytes_ = 64 << 20;
  std::vector<uint8_t> disk_;

  std::mutex mutex_; // guards what follows
  std::condition_variable wake_;
  std::deque<Request> requests_;
  bool is_ending_ = false;

  std::thread thread_;
};

} // namespace

NBDKIT_ASYNC_PLUGIN(Ramdisk, "async-ramdisk")
