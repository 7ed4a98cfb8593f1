// See c_plugin.hpp.
#include "backend/c_plugin.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <vector>

#include "base/mutex.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "host/log_text.hpp"

namespace asyncnbd::backend {

namespace {

using PluginInit = struct nbdkit_plugin *(*)();
using ExtensionInit = const struct asyncnbd_extension *(*)();

// Where the fields of nbdkit that are known here end.
constexpr size_t NBDKIT_FIELDS_BYTES = offsetof(struct nbdkit_plugin, async_pread);

// What our header registers in addition; nullptr for a plugin built with nbdkit's header.
const struct asyncnbd_extension *extension_of(const host::Library &library) {
  auto init = reinterpret_cast<ExtensionInit>(library.symbol("asyncnbd_plugin_init"));
  return init != nullptr ? init() : nullptr;
}

// Our fields past nbdkit's, as far as the plugin has them; the rest is zero.
struct nbdkit_plugin own_fields(const struct asyncnbd_extension *extension) {
  struct nbdkit_plugin own {};
  if (extension != nullptr)
    memcpy(&own.async_pread, extension->_callbacks,
           std::min<size_t>(extension->_callbacks_size, sizeof own - NBDKIT_FIELDS_BYTES));
  return own;
}

bool serves_many(const host::Library &library) {
  return own_fields(extension_of(library)).instance_bytes > 0;
}

bool is_alphanumeric(char c) {
  return isalnum(static_cast<unsigned char>(c)) != 0;
}

} // namespace

bool is_plugin_name(const char *name) {
  if (!is_alphanumeric(*name))
    return false;
  return std::all_of(name, name + strlen(name),
                     [](char c) { return is_alphanumeric(c) || c == '-'; });
}

CPlugin::Failure failure_after(uint64_t messages, const std::string &otherwise) {
  if (host::error_messages_on_this_thread() == messages)
    return otherwise;
  return PluginFailure(host::take_error_message(), true);
}

bool set_debug_variable(const host::Library &library, const std::string &name,
                        const std::string &flag, int value) {
  std::string symbol = name + "_debug_" + flag;
  std::replace_if(
      symbol.begin(), symbol.end(), [](char c) { return c == '.' || c == '-'; }, '_');
  auto *variable = static_cast<int *>(library.symbol(symbol));
  if (variable != nullptr)
    *variable = value;
  return variable != nullptr;
}

void with_plugin_opening(const std::function<void()> &open) {
  static base::Mutex<base::LockRank::plugin_opening> opening;
  std::lock_guard lock(opening);
  open();
}

// Calls a callback without parameters that returns 0 or -1.
CPlugin::Failure CPlugin::run(const char *callback, int (*function)()) {
  if (function == nullptr)
    return std::nullopt;
  host::StartScope starting(&shutdown_);
  host::InstanceScope scope(instance());
  uint64_t messages = host::error_messages_on_this_thread();
  if (function() != -1)
    return std::nullopt;
  return failure_after(messages,
                       "plugin \"" + name_ + "\": " + callback + " failed and gave no reason");
}

// A plugin that was not unloaded, for example because its configuration failed, may still use its
// instance.
CPlugin::~CPlugin() {
  if (instance_ == nullptr)
    return;
  static base::Mutex<base::LockRank::kept_instances> mutex;
  static auto *kept = new std::vector<std::unique_ptr<void, Free>>;
  std::lock_guard lock(mutex);
  kept->push_back(std::move(instance_));
}

CPlugin::Failure CPlugin::open() {
  Failure failure;
  with_plugin_opening([&] {
    failure = open_library();
    if (failure)
      library_.close();
  });
  return failure;
}

CPlugin::Failure CPlugin::open_library() {
  std::string reason;
  if (!library_.open(path_, serves_many, &reason))
    return "cannot open plugin " + path_ + ": " + reason;
  auto init = reinterpret_cast<PluginInit>(library_.symbol("plugin_init"));
  if (init == nullptr)
    return path_ + " is not a plugin: it has no function plugin_init "
                   "(is NBDKIT_REGISTER_PLUGIN missing?)";
  const struct nbdkit_plugin *registered = init();
  if (registered == nullptr)
    return path_ + ": plugin_init returned NULL: the plugin refused to register";
  struct_size_ = registered->_struct_size;
  if (struct_size_ < offsetof(struct nbdkit_plugin, longname))
    return path_ + ": the plugin's struct nbdkit_plugin has only " + std::to_string(struct_size_) +
           " bytes";
  // A plugin built for an older interface has a shorter table: missing fields stay zero.
  memcpy(&table_, registered, std::min(struct_size_, NBDKIT_FIELDS_BYTES));
  if (Failure failure = check_table())
    return failure;
  read_extension();
  if (table_.pread == nullptr && table_._pread_v1 == nullptr && table_.async_pread == nullptr)
    return path_ + ": the plugin has no pread callback";
  if (table_.instance_bytes == 0)
    return std::nullopt;
  instance_.reset(calloc(1, table_.instance_bytes));
  if (instance_ == nullptr)
    return path_ + ": no memory for an instance of the plugin";
  return std::nullopt;
}

// A model that this server does not know is more permissive than those it knows. Only a plugin that
// asks for the asynchronous model through our own header gets it and its callbacks.
void CPlugin::read_extension() {
  max_thread_model_ = static_cast<ThreadModel>(
      std::min(table_._thread_model, static_cast<int>(ThreadModel::parallel)));
  const struct asyncnbd_extension *extension = extension_of(library_);
  is_extended_ = extension != nullptr;
  const struct nbdkit_plugin own = own_fields(extension);
  table_.lend = own.lend;
  table_.read_fd = own.read_fd;
  table_.write_fd = own.write_fd;
  if (own.unplace != nullptr) // `place` needs it
    table_.place = own.place, table_.unplace = own.unplace;
  if (is_extended_ && extension->_thread_model >= static_cast<int>(ThreadModel::async)) {
    max_thread_model_ = ThreadModel::async;
    memcpy(&table_.async_pread, &own.async_pread, sizeof own - NBDKIT_FIELDS_BYTES);
  }
  table_.instance_bytes = own.instance_bytes;
  table_.drained = own.drained;
  thread_model_ = max_thread_model_;
}

CPlugin::Failure CPlugin::check_table() {
  if (table_._api_version < 0 || table_._api_version > 2)
    return path_ + ": the plugin needs API version " + std::to_string(table_._api_version) +
           ", this server supports 1 and 2";
  if (table_.name == nullptr)
    return path_ + ": the plugin has no name";
  if (!is_plugin_name(table_.name))
    return path_ + ": the plugin's name \"" + table_.name +
           "\" must consist of letters, digits and dashes, and not begin with a dash";
  name_ = table_.name;
  if (table_.open == nullptr)
    return path_ + ": the plugin has no open callback";
  if (table_.get_size == nullptr)
    return path_ + ": the plugin has no get_size callback";
  if (table_._thread_model < 0)
    return path_ + ": the plugin's thread model " + std::to_string(table_._thread_model) +
           " does not exist";
  return std::nullopt;
}

bool CPlugin::set_debug_flag(const std::string &flag, int value) {
  return set_debug_variable(library_, name_, flag, value);
}

void CPlugin::load() {
  host::log_debug("%s: load", name_.c_str());
  host::StartScope starting(&shutdown_);
  host::InstanceScope scope(instance());
  if (table_.load != nullptr)
    table_.load();
}

CPlugin::Failure CPlugin::config(const std::string &key, const std::string &value) {
  host::log_debug("%s: config key=%s, value=%s", name_.c_str(), key.c_str(),
                  host::loggable_value(key, value).c_str());
  if (table_.config == nullptr)
    return "plugin \"" + name_ + "\" takes no parameters, but \"" +
           (key == "script" ? "" : key + "=") + // with `script` the user has given only the value
           host::loggable_value(key, value) + "\" was given";
  host::StartScope starting(&shutdown_);
  host::InstanceScope scope(instance());
  host::InternPool &interns = host::process_interns();
  uint64_t messages = host::error_messages_on_this_thread();
  if (table_.config(interns.add(key), interns.add(value)) != -1)
    return std::nullopt;
  return failure_after(messages, "plugin \"" + name_ + "\" refused the parameter " + key + "=" +
                                     host::loggable_value(key, value));
}

CPlugin::Failure CPlugin::config_complete() {
  host::log_debug("%s: config_complete", name_.c_str());
  return run("config_complete", table_.config_complete);
}

CPlugin::Failure CPlugin::settle_thread_model() {
  if (table_.thread_model == nullptr)
    return std::nullopt;
  host::StartScope starting(&shutdown_);
  host::InstanceScope scope(instance());
  uint64_t messages = host::error_messages_on_this_thread();
  int wanted = table_.thread_model();
  if (wanted < 0)
    return failure_after(messages, "plugin \"" + name_ + "\": thread_model returned " +
                                       std::to_string(wanted) + ", which is not a thread model");
  thread_model_ = static_cast<ThreadModel>(std::min(wanted, static_cast<int>(thread_model_)));
  return std::nullopt;
}

CPlugin::Failure CPlugin::get_ready() {
  host::log_debug("%s: get_ready thread_model=%d", name_.c_str(), static_cast<int>(thread_model_));
  return run("get_ready", table_.get_ready);
}

CPlugin::Failure CPlugin::after_fork() {
  host::log_debug("%s: after_fork", name_.c_str());
  return run("after_fork", table_.after_fork);
}

void CPlugin::drained() {
  host::log_debug("%s: drained", name_.c_str());
  host::InstanceScope scope(instance());
  table_.drained();
}

void CPlugin::cleanup() {
  host::log_debug("%s: cleanup", name_.c_str());
  host::InstanceScope scope(instance());
  if (table_.cleanup != nullptr)
    table_.cleanup();
}

void CPlugin::unload() {
  host::log_debug("%s: unload", name_.c_str());
  {
    host::InstanceScope scope(instance());
    if (table_.unload != nullptr)
      table_.unload();
  }
  if (library_.close())
    instance_.reset();
}

std::unique_lock<TurnQueue> CPlugin::serialize_calls() {
  if (thread_model_ <= ThreadModel::serialize_all_requests)
    return std::unique_lock(*all_calls_);
  return {};
}

std::shared_ptr<TurnQueue> CPlugin::turns_of_export(unsigned threads) {
  switch (thread_model_) {
  case ThreadModel::serialize_connections:
  case ThreadModel::serialize_all_requests:
    return all_calls_;
  case ThreadModel::serialize_requests:
    return std::make_shared<TurnQueue>(1, 1, resources_);
  case ThreadModel::parallel:
    return std::make_shared<TurnQueue>(threads, threads, resources_);
  case ThreadModel::async:
    if (has_blocking_calls())
      return std::make_shared<TurnQueue>(UINT32_MAX, threads, resources_);
    break;
  }
  return nullptr;
}

// For an asynchronous plugin: whether a synchronous callback stands in for a missing asynchronous
// one.
bool CPlugin::has_blocking_calls() const {
  return (table_.pread != nullptr && table_.async_pread == nullptr) ||
         (table_.pwrite != nullptr && table_.async_pwrite == nullptr) ||
         (table_.flush != nullptr && table_.async_flush == nullptr) ||
         (table_.trim != nullptr && table_.async_trim == nullptr) ||
         (table_.zero != nullptr && table_.async_zero == nullptr) ||
         (table_.cache != nullptr && table_.async_cache == nullptr) ||
         (table_.extents != nullptr && table_.async_extents == nullptr);
}

} // namespace asyncnbd::backend
