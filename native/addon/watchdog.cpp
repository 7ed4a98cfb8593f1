// See watchdog.hpp.
#include "addon/watchdog.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <pthread.h>
#include <semaphore.h>
#include <set>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "base/thread_pool.hpp"
#include "host/emergency_log.hpp"

namespace asyncnbd::addon {

namespace {

constexpr int MAX_SIGNAL = 64;
constexpr unsigned TICK_MS = 20;
// After a second signal: its sender does not want to wait.
constexpr unsigned IMPATIENT_MS = 1000;
// Signals closer together count as one stop: a terminal signals the whole process group, a member
// of which may pass the signal on, and service managers send SIGTERM and SIGHUP.
constexpr int64_t ONE_STOP_MS = 1000;

std::array<struct sigaction, MAX_SIGNAL + 1> handlers; // JavaScript's
sem_t changed;
// Set by the handler, last_signal first: a thread that sees the count also sees the signal.
// JavaScript sets `seen` to the count that it has found.
std::atomic<unsigned> received{0};
std::atomic<unsigned> seen{0};
std::atomic<int> last_signal{0};
std::atomic<int64_t> last_stop_ms{INT64_MIN / 2}; // pairs with itself: exactly one is the first
std::atomic<unsigned> grace_ms{0};                // a setting, before the first signal

// What to log if the end does not proceed in time. Null: the server serves.
std::atomic<const char *> last_line{nullptr};
constexpr int64_t NEVER = INT64_MAX;
// The deadline is set last: its store pairs with the load in watch, which then sees the others.
std::atomic<int64_t> deadline_ms{NEVER};
std::atomic<int> forced_status{1};

// For streams of C, one of which a thread may hold for ever.
constexpr int64_t FLUSH_MS = 1000;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t SLOWNESS = 10; // sanitizers look for leaks at the end
#else
constexpr int64_t SLOWNESS = 1;
#endif

// A file that the server has made, and may delete if it is still the same.
struct MadeFile {
  std::string path;
  uint64_t device;
  uint64_t inode;
};
using MadeFiles = std::vector<MadeFile>;

// Published by one store that pairs with the load in remove_made_files: the thread that ends the
// process takes no lock.
std::atomic<const MadeFiles *> made_files{nullptr};

int64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// Async-signal-safe. Of signals that arrive on several threads at once, exactly one is the first.
bool is_new_stop() {
  const int64_t now = now_ms();
  int64_t last = last_stop_ms.load();
  return now - last >= ONE_STOP_MS && last_stop_ms.compare_exchange_strong(last, now);
}

void on_signal(int signal) {
  if (!is_new_stop())
    return;
  const int error = errno;
  last_signal.store(signal);
  received.fetch_add(1);
  sem_post(&changed);
  handlers[static_cast<size_t>(signal)].sa_handler(signal);
  errno = error;
}

// Async-signal-safe.
void remove_made_files() {
  const MadeFiles *files = made_files.load();
  if (files == nullptr)
    return;
  for (const MadeFile &file : *files) {
    struct stat status;
    if (lstat(file.path.c_str(), &status) == 0 && status.st_dev == file.device &&
        status.st_ino == file.inode)
      (void)(S_ISDIR(status.st_mode) ? rmdir(file.path.c_str()) : unlink(file.path.c_str()));
  }
}

[[noreturn]] void end_process(const char *reason, int status) {
  remove_made_files();
  host::log_emergency(reason);
  _exit(status);
}

bool has_unseen_signal() {
  return seen.load() != received.load();
}

unsigned patience_ms() {
  const bool is_second = received.load() - seen.load() > 1 || last_line.load() != nullptr;
  return is_second ? std::min(IMPATIENT_MS, grace_ms.load()) : grace_ms.load();
}

// Returns once JavaScript has seen all signals and no deadline is set; ends the process if that
// takes too long. It works even if all other threads hang and hold locks: it needs no memory, no
// stream and no loader.
void watch() {
  unsigned unseen_ms = 0;
  while (has_unseen_signal() || deadline_ms.load() != NEVER) {
    unseen_ms = has_unseen_signal() ? unseen_ms + TICK_MS : 0;
    if (unseen_ms > patience_ms())
      end_process("a plugin callback blocks the JavaScript thread, which did not handle a signal: "
                  "forcing the exit",
                  128 + last_signal.load());
    if (now_ms() >= deadline_ms.load())
      end_process(last_line.load(), forced_status.load());
    const timespec tick{0, TICK_MS * 1'000'000};
    nanosleep(&tick, nullptr);
  }
}

void work() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  for (;;) {
    if (sem_wait(&changed) == 0)
      watch();
  }
}

// If no thread is available, the process still ends as long as nothing blocks.
void start_watching() {
  [[maybe_unused]] static const bool started = [] {
    sem_init(&changed, 0, 0);
    return base::start_thread("nbd-watchdog", work);
  }();
}

} // namespace

Napi::Value guard_signals(const Napi::CallbackInfo &info) {
  Napi::Array signals = info[0].As<Napi::Array>();
  grace_ms.store(info[1].As<Napi::Number>().Uint32Value());
  start_watching();
  for (uint32_t i = 0; i < signals.Length(); i++) {
    const int signal = signals.Get(i).As<Napi::Number>();
    struct sigaction &old = handlers[static_cast<size_t>(signal)];
    if (sigaction(signal, nullptr, &old) != 0 || (old.sa_flags & SA_SIGINFO) != 0 ||
        old.sa_handler == SIG_DFL || old.sa_handler == SIG_IGN)
      continue;
    struct sigaction ours = old;
    ours.sa_handler = on_signal;
    sigaction(signal, &ours, nullptr);
  }
  return info.Env().Undefined();
}

Napi::Value signal_seen(const Napi::CallbackInfo &info) {
  seen.store(received.load());
  return info.Env().Undefined();
}

Napi::Value arm_watchdog(const Napi::CallbackInfo &info) {
  // The thread that ends the process may be reading one: they are never freed, and there are few.
  static auto *lines = new std::set<std::string>;
  start_watching();
  // Under the old deadline: a plugin may have left the allocator locked.
  const char *line = lines->insert(info[2].As<Napi::String>()).first->c_str();
  deadline_ms.store(NEVER); // no deadline while the others change
  last_line.store(line);
  forced_status.store(info[1].As<Napi::Number>().Int32Value());
  deadline_ms.store(now_ms() + info[0].As<Napi::Number>().Int64Value() * SLOWNESS);
  sem_post(&changed);
  return info.Env().Undefined();
}

Napi::Value end_now(const Napi::CallbackInfo &info) {
  _exit(info[0].As<Napi::Number>().Int32Value());
}

void leave_calls(int status, void *) {
  last_line.store("the process did not exit: forcing the exit");
  forced_status.store(status);
  deadline_ms.store(now_ms() + FLUSH_MS);
  sem_post(&changed);
  fflush(nullptr);
  _exit(status);
}

// Handlers of the end run last one first: this one before the destructors of all libraries that are
// there by now, so each call adds one.
Napi::Value end_without_destructors(const Napi::CallbackInfo &info) {
  start_watching();
  on_exit(leave_calls, nullptr);
  return info.Env().Undefined();
}

Napi::Value remove_at_forced_end(const Napi::CallbackInfo &info) {
  Napi::Array list = info[0].As<Napi::Array>();
  auto files = std::make_unique<MadeFiles>();
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::Object file = list.Get(i).As<Napi::Object>();
    bool lossless;
    files->push_back({file.Get("path").As<Napi::String>(),
                      file.Get("device").As<Napi::BigInt>().Uint64Value(&lossless),
                      file.Get("inode").As<Napi::BigInt>().Uint64Value(&lossless)});
  }
  // A list is never freed, because a thread may be reading it; a process sets two or three.
  static auto *all = new std::vector<std::unique_ptr<MadeFiles>>;
  made_files.store(files.get());
  all->push_back(std::move(files));
  return info.Env().Undefined();
}

} // namespace asyncnbd::addon
