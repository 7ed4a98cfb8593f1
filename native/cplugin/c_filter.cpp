// See c_filter.hpp.
#include "cplugin/c_filter.hpp"

#include <algorithm>

#include "host/context.hpp"
#include "host/log.hpp"
#include "host/log_text.hpp"

asyncnbd::backend::Level nbdkit_backend::level() const {
  asyncnbd::backend::Level level = place;
  if (const asyncnbd::host::CallContext *client = asyncnbd::host::current_context())
    level.bottom = client->bottom;
  return level;
}

namespace asyncnbd::cplugin {

namespace {

using FilterInit = nbdkit_filter *(*)();

// Filters hand on the pointer that they were given, whatever type their header gives it.
nbdkit_backend *as_backend(const void *next) {
  return static_cast<nbdkit_backend *>(const_cast<void *>(next));
}

int call_next_config(nbdkit_backend *nxdata, const char *key, const char *value) {
  const auto &next = *reinterpret_cast<const CFilter::NextConfig *>(nxdata);
  return next(key, value) ? 0 : -1;
}

int call_next_config_complete(nbdkit_backend *nxdata) {
  const auto &next = *reinterpret_cast<const CFilter::NextConfigComplete *>(nxdata);
  return next() ? 0 : -1;
}

} // namespace

// `words`: the user gets them if the filter has logged nothing.
template <typename Call> CFilter::Failure CFilter::run(Call call, const std::string &words) {
  host::StartScope starting(&shutdown_);
  const uint64_t messages = host::error_messages_on_this_thread();
  if (call() != -1)
    return std::nullopt;
  return backend::failure_after(messages, words);
}

std::string CFilter::without_reason(const char *callback) const {
  return "filter \"" + name_ + "\": " + callback + " failed and gave no reason";
}

CFilter::Failure CFilter::open() {
  Failure failure;
  backend::with_plugin_opening([&] {
    failure = open_library();
    if (failure)
      library_.close();
  });
  return failure;
}

CFilter::Failure CFilter::open_library() {
  std::string reason;
  const auto serves_one = [](const host::Library &) { return false; };
  if (!library_.open(path_, serves_one, &reason))
    return "cannot open filter " + path_ + ": " + reason;
  auto init = reinterpret_cast<FilterInit>(library_.symbol("filter_init"));
  if (init == nullptr)
    return path_ + " is not a filter: it has no function filter_init "
                   "(is NBDKIT_REGISTER_FILTER missing?)";
  const nbdkit_filter *registered = init();
  if (registered == nullptr)
    return path_ + ": filter_init returned NULL: the filter refused to register";
  if (registered->_api_version != NBDKIT_FILTER_API_VERSION)
    return path_ + ": the filter needs API version " + std::to_string(registered->_api_version) +
           ", this server supports " + std::to_string(NBDKIT_FILTER_API_VERSION);
  std::optional<FilterTable> table = read_filter(registered);
  if (!table) {
    const char *version = registered->_version;
    return path_ + ": the filter was built for nbdkit " + (version != nullptr ? version : "?") +
           ", of which the layout of filters is not known; known are " + KNOWN_FILTER_VERSIONS;
  }
  table_ = *table;
  if (table_.callbacks.name == nullptr)
    return path_ + ": the filter has no name";
  if (!backend::is_plugin_name(table_.callbacks.name))
    return path_ + ": the filter's name \"" + table_.callbacks.name +
           "\" must consist of letters, digits and dashes, and not begin with a dash";
  name_ = table_.callbacks.name;
  return std::nullopt;
}

bool CFilter::set_debug_flag(const std::string &flag, int value) {
  return backend::set_debug_variable(library_, name_, flag, value);
}

void CFilter::load() {
  host::log_debug("%s: load", name_.c_str());
  host::StartScope starting(&shutdown_);
  loads_++;
  if (table_.callbacks.load != nullptr)
    table_.callbacks.load();
}

CFilter::Failure CFilter::config(const std::string &key, const std::string &value,
                                 const NextConfig &next) {
  host::log_debug("%s: config key=%s, value=%s", name_.c_str(), key.c_str(),
                  host::loggable_value(key, value).c_str());
  host::InternPool &interns = host::process_interns();
  const char *kept_key = interns.add(key);
  const char *kept_value = interns.add(value);
  if (table_.callbacks.config == nullptr) {
    next(kept_key, kept_value);
    return std::nullopt;
  }
  return run(
      [&] {
        return table_.callbacks.config(call_next_config, as_backend(&next), kept_key, kept_value);
      },
      "filter \"" + name_ + "\" refused the parameter " + key + "=" +
          host::loggable_value(key, value));
}

CFilter::Failure CFilter::config_complete(const NextConfigComplete &next) {
  host::log_debug("%s: config_complete", name_.c_str());
  if (table_.callbacks.config_complete == nullptr) {
    next();
    return std::nullopt;
  }
  return run(
      [&] {
        return table_.callbacks.config_complete(call_next_config_complete, as_backend(&next));
      },
      without_reason("config_complete"));
}

CFilter::Failure CFilter::settle_thread_model(int behind) {
  if (table_.thread_model == nullptr && table_.thread_model_of == nullptr)
    return std::nullopt;
  constexpr int most = static_cast<int>(backend::ThreadModel::parallel);
  const auto ask = [&] {
    const int wanted = table_.thread_model_of != nullptr
                           ? table_.thread_model_of(std::min(behind, most))
                           : table_.thread_model();
    if (wanted >= 0)
      thread_model_ = static_cast<backend::ThreadModel>(std::min(wanted, most));
    return std::max(wanted, -1);
  };
  return run(ask, without_reason("thread_model"));
}

CFilter::Failure CFilter::get_ready(int model) {
  host::log_debug("%s: get_ready thread_model=%d", name_.c_str(), model);
  const auto callback = table_.callbacks.get_ready;
  return run([&] { return callback != nullptr ? callback(model) : 0; },
             without_reason("get_ready"));
}

CFilter::Failure CFilter::after_fork() {
  host::log_debug("%s: after_fork", name_.c_str());
  const auto callback = table_.callbacks.after_fork;
  nbdkit_backend *behind = innermost(started_);
  Failure failure =
      run([&] { return callback != nullptr ? callback(behind) : 0; }, without_reason("after_fork"));
  if (!failure)
    started_++;
  return failure;
}

nbdkit_backend *CFilter::innermost(size_t number) {
  return number < places_.size() ? &places_[places_.size() - 1 - number] : &nowhere_;
}

void CFilter::cleanup() {
  host::log_debug("%s: cleanup", name_.c_str());
  if (started_ > 0)
    started_--;
  if (table_.callbacks.cleanup != nullptr)
    table_.callbacks.cleanup(innermost(started_));
}

void CFilter::unload() {
  if (loads_ > 0) {
    host::log_debug("%s: unload", name_.c_str());
    if (table_.callbacks.unload != nullptr)
      table_.callbacks.unload();
    loads_--;
  }
  if (loads_ == 0)
    library_.close();
}

} // namespace asyncnbd::cplugin
