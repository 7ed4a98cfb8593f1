// --dump-plugin: which callbacks a C plugin has, as KEY=VALUE lines that scripts parse.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "backend/c_plugin.hpp"
#include "host/context.hpp"

namespace asyncnbd::backend {

namespace {

const char *thread_model_name(ThreadModel model) {
  switch (model) {
  case ThreadModel::serialize_connections:
    return "serialize_connections";
  case ThreadModel::serialize_all_requests:
    return "serialize_all_requests";
  case ThreadModel::serialize_requests:
    return "serialize_requests";
  case ThreadModel::parallel:
    return "parallel";
  case ThreadModel::async:
    return "async";
  }
  return "unknown";
}

std::string line(const char *key, const std::string &value) {
  return std::string(key) + "=" + value + "\n";
}

// One has_NAME=1 line per existing callback, in nbdkit's order. Fields are read through member
// pointers because each has its own type.
template <typename Field>
void has(std::string *lines, const struct nbdkit_plugin &table, const char *name, Field field) {
  if (table.*field != nullptr)
    *lines += line((std::string("has_") + name).c_str(), "1");
}

std::string callbacks(const struct nbdkit_plugin &table) {
  std::string lines;
#define HAS(field) has(&lines, table, #field, &nbdkit_plugin::field)
  HAS(longname);
  HAS(description);
  HAS(load);
  HAS(unload);
  HAS(dump_plugin);
  HAS(config);
  HAS(config_complete);
  HAS(config_help);
  HAS(thread_model);
  HAS(get_ready);
  HAS(after_fork);
  HAS(cleanup);
  HAS(preconnect);
  HAS(list_exports);
  HAS(default_export);
  HAS(open);
  HAS(close);
  HAS(export_description);
  HAS(get_size);
  HAS(block_size);
  HAS(can_write);
  HAS(can_flush);
  HAS(is_rotational);
  HAS(can_trim);
  HAS(can_zero);
  HAS(can_fast_zero);
  HAS(can_extents);
  HAS(can_fua);
  HAS(can_multi_conn);
  HAS(can_cache);
  HAS(pread);
  HAS(pwrite);
  HAS(flush);
  HAS(trim);
  HAS(zero);
  HAS(extents);
  HAS(cache);
  HAS(_pread_v1);
  HAS(_pwrite_v1);
  HAS(_flush_v1);
  HAS(_trim_v1);
  HAS(_zero_v1);
  HAS(async_pread);
  HAS(async_pwrite);
  HAS(async_flush);
  HAS(async_trim);
  HAS(async_zero);
  HAS(async_cache);
  HAS(async_extents);
  HAS(list_meta_contexts);
  HAS(async_block_status);
#undef HAS
  return lines;
}

} // namespace

std::string CPlugin::describe(ThreadModel model) const {
  char *resolved = realpath(path_.c_str(), nullptr);
  std::string lines = line("path", resolved != nullptr ? resolved : path_);
  free(resolved);
  lines += line("name", name_);
  if (table_.version != nullptr)
    lines += line("version", table_.version);
  lines += line("api_version", std::to_string(table_._api_version));
  lines += line("struct_size", std::to_string(struct_size_));
  lines += line("max_thread_model", thread_model_name(max_thread_model_));
  lines += line("thread_model", thread_model_name(std::min(model, thread_model_)));
  lines += line("errno_is_preserved", table_.errno_is_preserved != 0 ? "1" : "0");
  if (table_.magic_config_key != nullptr)
    lines += line("magic_config_key", table_.magic_config_key);
  return lines + callbacks(table_);
}

void CPlugin::dump_plugin() const {
  if (table_.dump_plugin == nullptr)
    return;
  host::InstanceScope scope(instance());
  table_.dump_plugin();
  fflush(stdout); // Node writes past C's buffer, and may exit without emptying it
}

} // namespace asyncnbd::backend
