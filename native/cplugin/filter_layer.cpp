// The beginning and the end of filter_layer.hpp: open, prepare, capabilities, finalize, close. In
// nbdkit's order.
#include "cplugin/filter_layer.hpp"

#include <cerrno>
#include <cinttypes>
#include <utility>

#include "backend/block_sizes.hpp"
#include "host/log.hpp"

namespace asyncnbd::cplugin {

FilterLayer::FilterLayer(CFilter &filter, nbdkit_backend &place, const backend::Level &behind,
                         bool readonly)
    : filter_(filter), context_(behind.bottom->context()), place_(place), behind_(behind),
      readonly_(readonly) {}

std::unique_ptr<backend::Backend> FilterLayer::open(CFilter &filter, nbdkit_backend &place,
                                                    const backend::Level &behind,
                                                    const std::string &export_name, bool readonly,
                                                    std::string *error) {
  auto layer = std::unique_ptr<FilterLayer>(new FilterLayer(filter, place, behind, readonly));
  if (layer->call_open(export_name, readonly, error))
    return layer;
  if (Next *opened = layer->set_next(nullptr))
    layer->close_before(opened, &Next::close_unused);
  return nullptr;
}

int FilterLayer::open_next(nbdkit_context *context, int readonly, const char *exportname) {
  FilterLayer &layer = *context->layer;
  std::string error;
  Next *next = Next::open(layer.behind_, exportname, readonly != 0, nullptr, &error);
  if (!error.empty())
    host::log_error("%s", error.c_str());
  if (next == nullptr)
    return -1;
  if (Next *before = layer.set_next(next)) // nbdkit stops here
    layer.close_before(before, &Next::close_unused);
  return 0;
}

bool FilterLayer::call_open(const std::string &export_name, bool readonly, std::string *error) {
  host::ContextScope scope(&context_);
  host::log_control("%s: open readonly=%d exportname=\"%s\" tls=%d", name(), readonly,
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
  is_of_all_ = next != nullptr && next->is_of_no_client();
  return next_.exchange(next);
}

void FilterLayer::close_before(Next *before, Close close) {
  std::shared_ptr<backend::Backend> closed; // destroyed without the lock
  {
    std::lock_guard lock(mutex_);
    closing_ = before->backend();
  }
  (before->*close)();
  std::lock_guard lock(mutex_);
  closed = std::move(closing_);
}

std::shared_ptr<backend::Backend> FilterLayer::shared_behind() const {
  std::lock_guard lock(mutex_);
  return backend_;
}

// From the innermost filter to the outermost; a filter may have opened nothing.
bool FilterLayer::collect(const backend::Wanted &wanted, backend::Facts *facts,
                          std::string *error) {
  Next *next = next_;
  if (next != nullptr && !next->prepare(error))
    return false;
  host::ContextScope scope(&context_);
  if (!prepare_itself() || !ask_all(facts))
    return false;
  if (wanted.description)
    facts->description = ask_description();
  if (wanted.block_sizes)
    facts->block_sizes = ask_block_sizes();
  const std::shared_ptr<backend::Backend> behind = shared_behind();
  facts->block_sizes_bind =
      behind != nullptr && behind->is_prepared() && behind->facts().block_sizes_bind;
  return true;
}

bool FilterLayer::prepare_itself() {
  host::log_control("%s: prepare readonly=%d", name(), readonly_);
  if (table().prepare != nullptr && table().prepare(next_, handle_, readonly_) == -1)
    return false;
  state_ = State::prepared;
  return true;
}

// From the outermost filter to the innermost, until one fails.
bool FilterLayer::finalize() {
  if (state_ == State::failed)
    return false;
  if (state_ == State::prepared) {
    host::ContextScope scope(&context_);
    host::log_control("%s: finalize", name());
    state_ = State::open;
    if (table().finalize != nullptr && table().finalize(next_, handle_) == -1) {
      state_ = State::failed;
      return false;
    }
  }
  Next *next = next_; // the filter may have replaced it
  return next == nullptr || next->finalize();
}

// As under nbdkit, a filter is always closed, and before that finalized if it has been prepared.
void FilterLayer::close_with(Close close) {
  finalize();
  {
    host::ContextScope scope(&context_);
    host::log_control("%s: close", name());
    if (table().close != nullptr)
      table().close(handle_);
  }
  handle_ = nullptr;
  if (Next *next = set_next(nullptr))
    close_before(next, close);
}

// ---- what it can do -----------------------------------------------------------------------------

int64_t FilterLayer::ask_size() {
  host::log_control("%s: get_size", name());
  Next *next = next_;
  if (table().get_size != nullptr)
    return table().get_size(next, handle_);
  return next != nullptr ? next->size() : -1;
}

int FilterLayer::ask(Fact fact) {
  host::log_control("%s: %s", name(), fact_name(fact));
  Next *next = next_;
  if (auto callback = fact_callback(table(), fact))
    return callback(next, handle_);
  return next != nullptr ? next->fact(fact) : -1;
}

bool FilterLayer::ask(Fact fact, bool *can) {
  const int answer = ask(fact);
  *can = answer > 0;
  if (answer == -1)
    host::log_error("filter \"%s\": %s failed, the export cannot be opened", name(),
                    fact_name(fact));
  return answer != -1;
}

bool FilterLayer::ask(Fact fact, backend::Support *support) {
  const int answer = ask(fact);
  if (answer >= 0)
    *support = backend::support_of(answer);
  else
    host::log_error("filter \"%s\": %s returned %d, the export cannot be opened", name(),
                    fact_name(fact), answer);
  return answer >= 0;
}

// Only asked if the export can be written.
bool FilterLayer::ask_of_writing(backend::Facts *facts) {
  if (!ask(Fact::can_zero, &facts->zero))
    return false;
  if (facts->zero != backend::Support::none && !ask(Fact::can_fast_zero, &facts->can_fast_zero))
    return false;
  return ask(Fact::can_trim, &facts->can_trim) && ask(Fact::can_fua, &facts->fua);
}

bool FilterLayer::ask_all(backend::Facts *facts) {
  const int64_t size = ask_size();
  if (size < 0) {
    host::log_error("filter \"%s\": get_size returned %" PRIi64 ", the export cannot be opened",
                    name(), size);
    return false;
  }
  facts->size_bytes = static_cast<uint64_t>(size);
  if ((!readonly_ && !ask(Fact::can_write, &facts->can_write)) ||
      (facts->can_write && !ask_of_writing(facts)))
    return false;
  facts->serializes_connections = behind_.serializes_connections();
  bool can_multi_conn;
  if (!ask(Fact::can_flush, &facts->can_flush) ||
      !ask(Fact::is_rotational, &facts->is_rotational) ||
      !ask(Fact::can_multi_conn, &can_multi_conn) || !ask(Fact::can_cache, &facts->cache) ||
      !ask(Fact::can_extents, &facts->can_extents))
    return false;
  facts->can_multi_conn = can_multi_conn && !facts->serializes_connections;
  return true;
}

std::string FilterLayer::ask_description() {
  host::log_control("%s: export_description", name());
  Next *next = next_;
  const char *text = nullptr;
  if (table().export_description != nullptr)
    text = table().export_description(next, handle_);
  else if (next != nullptr)
    text = next->description();
  return text != nullptr ? text : "";
}

std::optional<backend::BlockSizes> FilterLayer::ask_block_sizes() {
  host::log_control("%s: block_size", name());
  Next *next = next_;
  backend::BlockSizes sizes;
  int result = 0;
  if (table().block_size != nullptr)
    result = table().block_size(next, handle_, &sizes.minimum, &sizes.preferred, &sizes.maximum);
  else if (next != nullptr)
    result = next->block_size(&sizes.minimum, &sizes.preferred, &sizes.maximum);
  if (result == -1)
    return std::nullopt;
  return backend::checked_block_sizes("filter \"" + filter_.name() + "\": ", sizes);
}

uint32_t FilterLayer::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  // Outside of any turn: the filter may be opening or closing what is behind it right now.
  const std::shared_ptr<backend::Backend> behind = shared_behind();
  return behind != nullptr && behind->is_prepared()
             ? Next::bytes_besides(*behind, type, length_bytes)
             : 0;
}

// ---- while it is open ---------------------------------------------------------------------------

// What is behind this filter, unless other clients share it.
std::shared_ptr<backend::Backend> FilterLayer::own_behind() const {
  std::lock_guard lock(mutex_);
  return is_of_all_ ? nullptr : backend_;
}

void FilterLayer::on_client_gone() {
  if (std::shared_ptr<backend::Backend> behind = own_behind())
    behind->on_client_gone();
}

void FilterLayer::on_server_stopping() {
  is_stopping_.store(true, std::memory_order_relaxed);
  if (std::shared_ptr<backend::Backend> behind = shared_behind())
    behind->on_server_stopping();
}

// Ends the requests that the filter waits for; the filter then goes on by itself. Requests that
// other clients wait for too are only given up when the server stops for all of them.
void FilterLayer::give_up_unanswered() {
  std::shared_ptr<backend::Backend> behind;
  std::shared_ptr<backend::Backend> closing;
  {
    std::lock_guard lock(mutex_);
    if (!is_of_all_ || is_stopping_.load(std::memory_order_relaxed))
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
