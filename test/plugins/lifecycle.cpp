// Tells which threads its callbacks before and after all clients run on.
//
// report=FILE: gets "CALLBACK main" or "CALLBACK other" for each; "symbols global" if others can
// see this plugin's.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>
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

void note(const char *callback) {
  if (calls == nullptr)
    calls = new std::string;
  *calls += std::string(callback) + (gettid() == getpid() ? " main\n" : " other\n");
}

void lifecycle_load() {
  note("load");
  if (dlsym(RTLD_DEFAULT, "lifecycle_is_visible") == &lifecycle_is_visible)
    *calls += "symbols global\n";
}

int lifecycle_config(const char *key, const char *value) {
  note("config");
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
  return 0;
}

void lifecycle_cleanup() {
  note("cleanup");
}

void lifecycle_unload() {
  note("unload");
  FILE *report = report_path == nullptr ? nullptr : fopen(report_path, "w");
  if (report != nullptr) {
    fputs(calls->c_str(), report);
    fclose(report);
  }
  delete calls;
  free(const_cast<char *>(report_path));
}

void *lifecycle_open(int) {
  return NBDKIT_HANDLE_NOT_NEEDED;
}

int64_t lifecycle_get_size(void *) {
  return 4096;
}

int lifecycle_pread(void *, void *buf, uint32_t count, uint64_t, uint32_t) {
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
  table.cleanup = lifecycle_cleanup;
  table.unload = lifecycle_unload;
  table.open = lifecycle_open;
  table.get_size = lifecycle_get_size;
  table.pread = lifecycle_pread;
  return table;
}();

} // namespace

NBDKIT_REGISTER_PLUGIN(plugin)
