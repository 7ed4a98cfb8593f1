// An asynchronous disk that answers from 8 threads in random order, now and then late, twice, with
// an error or, after the connection has closed, again; clients must see their data all the same.
//
// size=BYTES, seed=N. Errors are given to odd multiples of 64 KiB beyond `size / 2` only, so that a
// client can verify the rest. At the end prints what it has done as "torture: …" lines.

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace {

constexpr unsigned THREADS = 8;
constexpr uint64_t REGION_BYTES = 64 << 10;
// So few that threads run dry and everything is answered soon, so many that the order is random.
constexpr size_t SHUFFLED = 64;

struct Id {
  void *conn;
  uint64_t reqid;
};

struct Task {
  Id id;
  std::function<int()> reply;
};

uint64_t size_bytes = 8 << 20;
unsigned seed = 1;
std::vector<uint8_t> disk;
// Requests that overlap in flight have no order, but each byte must be one or the other.
std::mutex regions[256];

std::mutex lock;
std::condition_variable changed;
std::vector<Task> tasks;
std::vector<Id> old_ids; // of requests long answered, perhaps of connections long closed
bool ending = false;
std::vector<std::thread> threads;

std::atomic<uint64_t> replies{0};
std::atomic<uint64_t> refused{0};          // the client had gone
std::atomic<uint64_t> repeated{0};         // answered again
std::atomic<uint64_t> repeats_accepted{0}; // which must never be

std::mutex &region_of(uint64_t offset) {
  return regions[offset / REGION_BYTES % 256];
}

void count(int result) {
  replies++;
  if (result == -1)
    refused++;
}

void repeat_an_old_reply(std::mt19937 &random, std::unique_lock<std::mutex> &locked) {
  if (old_ids.empty())
    return;
  const Id id = old_ids[random() % old_ids.size()];
  locked.unlock();
  repeated++;
  if (nbdkit_async_reply(id.conn, id.reqid) != -1)
    repeats_accepted++;
  uint8_t byte = 0;
  if (nbdkit_async_reply_read(id.conn, id.reqid, 1, &byte) != -1)
    repeats_accepted++;
  locked.lock();
}

void work(unsigned number) {
  std::mt19937 random(seed * 100 + number);
  std::unique_lock locked(lock);
  for (;;) {
    changed.wait_for(locked, std::chrono::milliseconds(1),
                     [] { return ending || tasks.size() >= SHUFFLED; });
    if (tasks.empty()) {
      if (ending)
        return;
      continue;
    }
    std::swap(tasks[random() % tasks.size()], tasks.back());
    Task task = std::move(tasks.back());
    tasks.pop_back();
    locked.unlock();
    if (random() % 64 == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 20));
    const bool in_batch = random() % 4 == 0;
    if (in_batch)
      nbdkit_async_batch_begin();
    count(task.reply());
    if (in_batch)
      nbdkit_async_batch_end();
    locked.lock();
    if (old_ids.size() < 10000)
      old_ids.push_back(task.id);
    else
      old_ids[random() % old_ids.size()] = task.id;
    if (random() % 16 == 0)
      repeat_an_old_reply(random, locked);
  }
}

bool fails(uint64_t offset) {
  return offset >= size_bytes / 2 && (offset / REGION_BYTES) % 2 == 1;
}

int later(void *conn, uint64_t reqid, std::function<int()> reply) {
  std::lock_guard locked(lock);
  tasks.push_back({{conn, reqid}, std::move(reply)});
  changed.notify_one();
  return 0;
}

int torture_pread(void *conn, uint64_t reqid, bool, void *, void *buf, uint32_t count_bytes,
                  uint64_t offset) {
  return later(conn, reqid, [=] {
    if (fails(offset))
      return nbdkit_async_reply_errno(conn, reqid, EIO);
    std::vector<uint8_t> own(count_bytes);
    {
      std::lock_guard locked(region_of(offset));
      memcpy(own.data(), disk.data() + offset, count_bytes);
    }
    switch (reqid % 3) {
    case 0:
      memcpy(buf, own.data(), count_bytes);
      return nbdkit_async_reply_read(conn, reqid, count_bytes, buf);
    case 1: {
      auto *lent = new std::vector<uint8_t>(std::move(own));
      auto give_back = [](void *opaque) {
        auto *data = static_cast<std::vector<uint8_t> *>(opaque);
        std::fill(data->begin(), data->end(), uint8_t{0xee});
        delete data;
      };
      return nbdkit_async_reply_read_lent(conn, reqid, count_bytes, lent->data(), give_back, lent);
    }
    default:
      const int result = nbdkit_async_reply_read(conn, reqid, count_bytes, own.data());
      std::fill(own.begin(), own.end(), uint8_t{0xee});
      return result;
    }
  });
}

int torture_pwrite(void *conn, uint64_t reqid, bool, void *, const void *buf, uint32_t count_bytes,
                   uint64_t offset) {
  return later(conn, reqid, [=] {
    if (fails(offset)) {
      nbdkit_set_error(ENOSPC);
      return nbdkit_async_reply_error(conn, reqid);
    }
    {
      std::lock_guard locked(region_of(offset));
      memcpy(disk.data() + offset, buf, count_bytes);
    }
    return nbdkit_async_reply(conn, reqid);
  });
}

int torture_flush(void *conn, uint64_t reqid, void *) {
  return later(conn, reqid, [=] { return nbdkit_async_reply(conn, reqid); });
}

int torture_config(const char *key, const char *value) {
  if (strcmp(key, "seed") == 0)
    return nbdkit_parse_unsigned(key, value, &seed);
  const int64_t size = nbdkit_parse_size(value);
  size_bytes = static_cast<uint64_t>(size);
  return size == -1 ? -1 : 0;
}

int torture_after_fork() {
  disk.resize(size_bytes);
  for (unsigned i = 0; i < THREADS; i++)
    threads.emplace_back(work, i);
  return 0;
}

void torture_cleanup() {
  {
    std::lock_guard locked(lock);
    ending = true;
    changed.notify_all();
  }
  for (std::thread &thread : threads)
    thread.join();
  threads.clear();
  fprintf(stderr, "torture: %llu replies, %llu refused, %llu repeated, %llu repeats accepted\n",
          static_cast<unsigned long long>(replies), static_cast<unsigned long long>(refused),
          static_cast<unsigned long long>(repeated),
          static_cast<unsigned long long>(repeats_accepted));
}

void *torture_open(int) {
  return NBDKIT_HANDLE_NOT_NEEDED;
}

int64_t torture_get_size(void *) {
  return static_cast<int64_t>(size_bytes);
}

int torture_can_multi_conn(void *) {
  return 1;
}

// Not designated initializers: g++ warns of every field they leave out.
struct nbdkit_plugin plugin = [] {
  struct nbdkit_plugin table = {};
  table.name = "torture";
  table.config = torture_config;
  table.open = torture_open;
  table.get_size = torture_get_size;
  table.can_multi_conn = torture_can_multi_conn;
  table.after_fork = torture_after_fork;
  table.cleanup = torture_cleanup;
  table.async_pread = torture_pread;
  table.async_pwrite = torture_pwrite;
  table.async_flush = torture_flush;
  return table;
}();

} // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
