// The beginning and the end of filter_layer.hpp: open, prepare, what it can do, finalize, close. In
// nbdkit's order.
#include "cplugin/filter_layer.hpp"

#include <cerrno>
#include <cinttypes>
#include <utility>

#include "host/log.hpp"

namespace asyncnbd::cplugin {

FilterLayer::FilterLayer(CFilter &filter, const backend::Level &behind, bool readonly)
    : filter_(filter), context_(behind.bottom->context()), behind_{behind} {
  for (std::atomic<int> &fact : facts_)
    fact = -1;
  if (readonly)
    facts_[static_cast<size_t>(Fact::can_write)] = 0;
}

std::unique_ptr<backend::Backend> FilterLayer::open(CFilter &filter, const backend::Level &behind,
                                                    const std::string &export_name, bool readonly,
                                                    std::string *error) {
  auto layer = std::unique_ptr<FilterLayer>(new FilterLayer(filter, behind, readonly));
  if (layer->call_open(export_name, readonly, error))
    return layer;
  if (Next *opened = layer->set_next(nullptr))
    layer->close_before(opened);
  return nullptr;
}

int FilterLayer::open_next(nbdkit_context *context, int readonly, const char *exportname) {
  FilterLayer &layer = *context->layer;
  std::string error;
  Next *next = Next::open(layer.behind_.level, exportname, readonly != 0, &error);
  if (!error.empty())
    host::log_error("%s", error.c_str());
  if (next == nullptr)
    return -1;
  if (Next *before = layer.set_next(next)) // nbdkit stops here
    layer.close_before(before);
  return 0;
}

bool FilterLayer::call_open(const std::string &export_name, bool readonly, std::string *error) {
  host::ContextScope scope(&context_);
  host::log_debug("%s: open readonly=%d exportname=\"%s\" tls=%d", name(), readonly,
                  export_name.c_str(), context_.tls);
  const uint64_t messages = host::error_messages_on_this_thread();
  if (table().open != nullptr)
    handle_ =
        table().open(open_next, &self_, readonly, context_.interns.add(export_name), context_.tls);
  else if (open_next(&self_, readonly, export_name.c_str()) != -1)
    handle_ = NBDKIT_HANDLE_NOT_NEEDED;
  if (handle_ == nullptr && host::error_messages_on_this_thread() == messages)
    *error = "filter \"" + filter_.name() + "\": open failed, and it gave no reason";
  return handle_ != nullptr;
}

Next *FilterLayer::set_next(Next *next) {
  std::lock_guard lock(mutex_);
  backend_ = next != nullptr ? next->backend() : nullptr;
  return next_.exchange(next);
}

void FilterLayer::close_before(Next *before) {
  std::shared_ptr<backend::Backend> closed; // goes without the lock
  {
    std::lock_guard lock(mutex_);
    closing_ = before->backend();
  }
  before->close();
  std::lock_guard lock(mutex_);
  closed = std::move(closing_);
}

std::shared_ptr<backend::Backend> FilterLayer::shared_behind() const {
  std::lock_guard lock(mutex_);
  return backend_;
}

// Inner to outer; a filter may have opened nothing.
bool FilterLayer::prepare_in_run() {
  if (state_ != State::open)
    return state_ == State::prepared;
  Next *next = next_;
  if (next != nullptr && !next->prepare())
    return false;
  host::ContextScope scope(&context_);
  const bool readonly = facts_[static_cast<size_t>(Fact::can_write)] == 0;
  host::log_debug("%s: prepare readonly=%d", name(), readonly);
  if (table().prepare != nullptr && table().prepare(next, handle_, readonly) == -1)
    return false;
  state_ = State::prepared;
  return true;
}

bool FilterLayer::prepare() {
  if (!prepare_in_run())
    return false;
  host::ContextScope scope(&context_);
  return collect_capabilities();
}

// Outer to inner, until one fails.
bool FilterLayer::finalize() {
  if (state_ == State::failed)
    return false;
  Next *next = next_;
  if (state_ == State::prepared) {
    host::ContextScope scope(&context_);
    host::log_debug("%s: finalize", name());
    state_ = State::open;
    if (table().finalize != nullptr && table().finalize(next, handle_) == -1) {
      state_ = State::failed;
      return false;
    }
  }
  return next == nullptr || next->finalize();
}

void FilterLayer::close() {
  finalize();
  Next *next = next_;
  {
    host::ContextScope scope(&context_);
    host::log_debug("%s: close", name());
    if (table().close != nullptr)
      table().close(handle_);
  }
  handle_ = nullptr;
  set_next(nullptr);
  if (next != nullptr)
    close_before(next);
}

// ---- what it can do -----------------------------------------------------------------------------

int64_t FilterLayer::size() {
  int64_t size = size_;
  if (size != -1)
    return size;
  host::log_debug("%s: get_size", name());
  Next *next = next_;
  if (table().get_size != nullptr)
    size = table().get_size(next, handle_);
  else if (next != nullptr)
    size = next->size();
  size_ = size;
  return size;
}

int FilterLayer::fact(Fact fact) {
  std::atomic<int> &known = facts_[static_cast<size_t>(fact)];
  if (known != -1)
    return known;
  // What changes the disk is not asked of one that is not written to.
  const bool needs_write = fact == Fact::can_trim || fact == Fact::can_zero ||
                           fact == Fact::can_fast_zero || fact == Fact::can_fua;
  int answer = 1;
  if (fact == Fact::can_fast_zero)
    answer = this->fact(Fact::can_zero) > 0 ? 1 : 0;
  else if (needs_write)
    answer = this->fact(Fact::can_write);
  if (answer == 1)
    answer = ask(fact);
  known = answer;
  return answer;
}

int FilterLayer::ask(Fact fact) {
  host::log_debug("%s: %s", name(), fact_name(fact));
  Next *next = next_;
  if (auto callback = fact_callback(table(), fact))
    return callback(next, handle_);
  return next != nullptr ? next->fact(fact) : -1;
}

bool FilterLayer::collect(Fact fact, bool *can) {
  const int answer = this->fact(fact);
  *can = answer > 0;
  if (answer == -1)
    host::log_error("filter \"%s\": %s failed, the export cannot be opened", name(),
                    fact_name(fact));
  return answer != -1;
}

bool FilterLayer::collect(Fact fact, backend::Support *support) {
  const int answer = this->fact(fact);
  const bool is_known = answer >= 0 && answer <= static_cast<int>(backend::Support::native);
  if (is_known)
    *support = static_cast<backend::Support>(answer);
  else
    host::log_error("filter \"%s\": %s returned %d, the export cannot be opened", name(),
                    fact_name(fact), answer);
  return is_known;
}

bool FilterLayer::collect_for_writing() {
  return collect(Fact::can_zero, &capabilities_.zero) &&
         collect(Fact::can_fast_zero, &capabilities_.can_fast_zero) &&
         collect(Fact::can_trim, &capabilities_.can_trim) &&
         collect(Fact::can_fua, &capabilities_.fua);
}

bool FilterLayer::collect_capabilities() {
  const int64_t size = this->size();
  if (size < 0) {
    host::log_error("filter \"%s\": get_size returned %" PRIi64 ", the export cannot be opened",
                    name(), size);
    return false;
  }
  capabilities_.size_bytes = static_cast<uint64_t>(size);
  if (!collect(Fact::can_write, &capabilities_.can_write) ||
      (capabilities_.can_write && !collect_for_writing()))
    return false;
  capabilities_.serializes_connections = behind_.level.serializes_connections();
  bool can_multi_conn;
  if (!collect(Fact::can_flush, &capabilities_.can_flush) ||
      !collect(Fact::is_rotational, &capabilities_.is_rotational) ||
      !collect(Fact::can_multi_conn, &can_multi_conn) ||
      !collect(Fact::can_cache, &capabilities_.cache) ||
      !collect(Fact::can_extents, &capabilities_.can_extents))
    return false;
  capabilities_.can_multi_conn = can_multi_conn && !capabilities_.serializes_connections;
  return true;
}

std::string FilterLayer::description() {
  host::ContextScope scope(&context_);
  host::log_debug("%s: export_description", name());
  Next *next = next_;
  const char *text = nullptr;
  if (table().export_description != nullptr)
    text = table().export_description(next, handle_);
  else if (next != nullptr)
    text = next->description();
  return text != nullptr ? text : "";
}

bool FilterLayer::block_sizes(backend::BlockSizes *sizes) {
  host::ContextScope scope(&context_);
  host::log_debug("%s: block_size", name());
  Next *next = next_;
  if (table().block_size != nullptr)
    return table().block_size(next, handle_, &sizes->minimum, &sizes->preferred, &sizes->maximum) !=
           -1;
  return next == nullptr ||
         next->block_size(&sizes->minimum, &sizes->preferred, &sizes->maximum) != -1;
}

uint32_t FilterLayer::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  // Before any turn: the filter may be closing what is behind it at this moment.
  const std::shared_ptr<backend::Backend> behind = shared_behind();
  return behind != nullptr ? Next::bytes_besides(*behind, type, length_bytes) : 0;
}

// ---- while it is open ---------------------------------------------------------------------------

void FilterLayer::on_client_gone() {
  if (std::shared_ptr<backend::Backend> behind = shared_behind())
    behind->on_client_gone();
}

void FilterLayer::on_server_stopping() {
  if (std::shared_ptr<backend::Backend> behind = shared_behind())
    behind->on_server_stopping();
}

// What the filter waits for ends, and the filter goes on by itself.
void FilterLayer::give_up_unanswered() {
  std::shared_ptr<backend::Backend> behind;
  std::shared_ptr<backend::Backend> closing;
  {
    std::lock_guard lock(mutex_);
    behind = backend_;
    closing = closing_;
  }
  for (const std::shared_ptr<backend::Backend> &each : {behind, closing})
    if (each != nullptr)
      each->give_up_unanswered();
}

void FilterLayer::release_idle_memory() {
  if (std::shared_ptr<backend::Backend> behind = shared_behind())
    behind->release_idle_memory();
}

} // namespace asyncnbd::cplugin
