// A disk in memory whose requests are carried out by one thread, in C++: the asynchronous thread
// model in its smallest useful form. A callback only queues; what the thread does could as well be
// done by an event loop, a pool, or a library that calls back.
//
//     g++ -std=c++20 -fPIC -shared -I native/include examples/async-ramdisk.cpp -o async-ramdisk.so
//     asyncnbd ./async-ramdisk.so size=64M

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace {

// The thread that carries requests out, in the order in which they came.
class Worker {
public:
  void start() {
    thread_ = std::thread([this] { work(); });
  }

  // After the last request.
  void stop() {
    run(nullptr);
    thread_.join();
  }

  void run(std::function<void()> task) {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    wake_.notify_one();
  }

private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return !tasks_.empty(); });
      std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock(); // a reply must not find a lock held that a callback takes
      if (!task)
        return;
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  std::thread thread_;
};

std::vector<uint8_t> disk(64 << 20);
Worker worker;

int ramdisk_config(const char *key, const char *value) {
  if (strcmp(key, "size") != 0) {
    nbdkit_error("unknown parameter \"%s\"", key);
    return -1;
  }
  const int64_t size = nbdkit_parse_size(value);
  if (size != -1)
    disk.resize(static_cast<size_t>(size));
  return size == -1 ? -1 : 0;
}

// Not earlier: a server that goes to the background is another process afterwards.
int ramdisk_after_fork() {
  worker.start();
  return 0;
}

void ramdisk_cleanup() {
  worker.stop();
}

void *ramdisk_open(int) {
  return NBDKIT_HANDLE_NOT_NEEDED;
}

int64_t ramdisk_get_size(void *) {
  return static_cast<int64_t>(disk.size());
}

int ramdisk_pread(void *conn, uint64_t reqid, bool, void *, void *buf, uint32_t count,
                  uint64_t offset) {
  worker.run([=] {
    memcpy(buf, &disk[offset], count);
    nbdkit_async_reply_read(conn, reqid, count, buf);
  });
  return 0;
}

int ramdisk_pwrite(void *conn, uint64_t reqid, bool, void *, const void *buf, uint32_t count,
                   uint64_t offset) {
  worker.run([=] {
    memcpy(&disk[offset], buf, count);
    nbdkit_async_reply(conn, reqid);
  });
  return 0;
}

struct nbdkit_plugin plugin = [] {
  struct nbdkit_plugin table = {};
  table.name = "async-ramdisk";
  table.config = ramdisk_config;
  table.config_help = "size=<SIZE>             Size of the disk, 64M by default.";
  table.magic_config_key = "size";
  table.open = ramdisk_open;
  table.get_size = ramdisk_get_size;
  table.after_fork = ramdisk_after_fork;
  table.cleanup = ramdisk_cleanup;
  table.async_pread = ramdisk_pread;
  table.async_pwrite = ramdisk_pwrite;
  return table;
}();

} // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
