// Tells which threads its callbacks before and after all clients run on, and has the mistakes that
// keep processes from ending.
//
// report=FILE: gets "CALLBACK main" or "CALLBACK other" for each; "symbols global" if others can
// see this plugin's. hang=WHAT: see the names of the functions below. library=FILE: for
// hang=loader.

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <mutex>
#include <string>
#include <thread>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

extern "C" {
__attribute__((visibility("default"))) int lifecycle_is_visible = 1;
}

namespace {

std::string *calls;
const char *report_path;
const char *library_path;

void note(const char *callback) {
  if (calls == nullptr)
    calls = new std::string;
  *calls += std::string(callback) + (gettid() == getpid() ? " main\n" : " other\n");
}

std::mutex mutex;
std::condition_variable never;

void pause_for_ever() {
  for (;;)
    pause();
}

// A thread that is still there when the library's destructors run.
void wait_for_ever() {
  std::unique_lock lock(mutex);
  never.wait(lock, [] { return false; });
}

// Its destructor waits for who waits for it.
void hang_destructor() {
  std::thread(wait_for_ever).detach();
}

// The library's constructor does not return, under the loader's lock.
void hang_loader() {
  std::thread([] { dlopen(library_path, RTLD_NOW); }).detach();
}

// By a function of the preloaded allocator's.
void hang_memory() {
  reinterpret_cast<void (*)()>(dlsym(RTLD_DEFAULT, "lock_memory"))();
}

void be_late() {
  usleep(2'500'000);
}

// The log's reader is asleep.
void hang_log() {
  for (;;)
    nbdkit_error("a line of the log");
}

struct Hang {
  const char *name;
  const char *where;
  void (*function)();
};

constexpr Hang HANGS[] = {{"destructor", "after_fork", hang_destructor},
                          {"loader", "after_fork", hang_loader},
                          {"memory", "cleanup", hang_memory},
                          {"log", "cleanup", hang_log},
                          {"preconnect", "preconnect", pause_for_ever},
                          {"open", "open", pause_for_ever},
                          {"pread", "pread", pause_for_ever},
                          {"waiting pread", "pread", wait_for_ever},
                          {"late open", "open", be_late},
                          {"close", "close", pause_for_ever},
                          {"late close", "close", be_late},
                          {"drained", "drained", pause_for_ever},
                          {"waiting drained", "drained", wait_for_ever},
                          {"late drained", "drained", be_late},
                          {"cleanup", "cleanup", pause_for_ever},
                          {"unload", "unload", pause_for_ever}};
const Hang *hang;

void perhaps_hang_in(const char *callback) {
  if (hang != nullptr && strcmp(hang->where, callback) == 0)
    hang->function();
}

int choose_hang(const char *name) {
  for (const Hang &each : HANGS)
    if (strcmp(name, each.name) == 0)
      hang = &each;
  return hang == nullptr ? -1 : 0;
}

void lifecycle_load() {
  note("load");
  if (dlsym(RTLD_DEFAULT, "lifecycle_is_visible") == &lifecycle_is_visible)
    *calls += "symbols global\n";
}

int lifecycle_config(const char *key, const char *value) {
  note("config");
  if (strcmp(key, "hang") == 0)
    return choose_hang(value);
  if (strcmp(key, "library") == 0) {
    library_path = value;
    return 0;
  }
  if (strcmp(key, "report") != 0) {
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
  }
  report_path = nbdkit_absolute_path(value);
  return report_path == nullptr ? -1 : 0;
}

int lifecycle_config_complete() {
  note("config_complete");
  return 0;
}

int lifecycle_thread_model() {
  note("thread_model");
  return THREAD_MODEL;
}

int lifecycle_get_ready() {
  note("get_ready");
  return 0;
}

int lifecycle_after_fork() {
  note("after_fork");
  perhaps_hang_in("after_fork");
  return 0;
}

void lifecycle_drained() {
  note("drained");
  perhaps_hang_in("drained");
}

void lifecycle_cleanup() {
  note("cleanup");
  perhaps_hang_in("cleanup");
}

void lifecycle_unload() {
  note("unload");
  perhaps_hang_in("unload");
  FILE *report = report_path == nullptr ? nullptr : fopen(report_path, "w");
  if (report != nullptr) {
    fputs(calls->c_str(), report);
    fclose(report);
  }
  delete calls;
  free(const_cast<char *>(report_path));
}

int lifecycle_preconnect(int) {
  perhaps_hang_in("preconnect");
  return 0;
}

void *lifecycle_open(int) {
  perhaps_hang_in("open");
  return NBDKIT_HANDLE_NOT_NEEDED;
}

void lifecycle_close(void *) {
  perhaps_hang_in("close");
}

int64_t lifecycle_get_size(void *) {
  return 4096;
}

int lifecycle_pread(void *, void *buf, uint32_t count, uint64_t, uint32_t) {
  perhaps_hang_in("pread");
  memset(buf, 0, count);
  return 0;
}

struct nbdkit_plugin plugin = [] {
  struct nbdkit_plugin table {};
  table.name = "lifecycle";
  table.load = lifecycle_load;
  table.config = lifecycle_config;
  table.config_complete = lifecycle_config_complete;
  table.thread_model = lifecycle_thread_model;
  table.get_ready = lifecycle_get_ready;
  table.after_fork = lifecycle_after_fork;
  table.drained = lifecycle_drained; // nbdkit does not know it
  table.cleanup = lifecycle_cleanup;
  table.unload = lifecycle_unload;
  table.preconnect = lifecycle_preconnect;
  table.open = lifecycle_open;
  table.close = lifecycle_close;
  table.get_size = lifecycle_get_size;
  table.pread = lifecycle_pread;
  return table;
}();

} // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
