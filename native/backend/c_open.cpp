// The beginning and the end of c_backend.hpp: open, capabilities, close. Asks the questions in
// nbdkit's order, once each, with nbdkit's answers for missing callbacks.
#include <cinttypes>

#include "backend/block_sizes.hpp"
#include "backend/c_backend.hpp"
#include "backend/emulate.hpp"
#include "backend/sparse_reads.hpp"
#include "backend/turns.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::backend {

namespace {

bool has_synchronous_flush(const struct nbdkit_plugin &table) {
  return table.flush != nullptr || table._flush_v1 != nullptr;
}

bool has_flush(const struct nbdkit_plugin &table) {
  return has_synchronous_flush(table) || table.async_flush != nullptr;
}

// A lookup that takes as long as the read itself would not pay.
bool may_have_sparse_reads(const CPlugin &plugin) {
  return plugin.is_extended() && plugin.table().async_extents == nullptr;
}

// A request of several calls keeps its turn for all of them, as nbdkit holds its lock. If the
// plugin is parallel and only the leader calls it, turns would only cost time.
std::unique_ptr<Backend> with_layers(CPlugin &plugin, std::unique_ptr<Backend> opened,
                                     unsigned threads, Submitter submitter) {
  base::Threads &pool = plugin.resources().threads;
  opened = std::make_unique<Emulation>(std::move(opened), pool);
  if (may_have_sparse_reads(plugin))
    opened = std::make_unique<SparseReads>(std::move(opened), pool);
  if (submitter == Submitter::leader && plugin.thread_model() == ThreadModel::parallel)
    return opened;
  if (std::shared_ptr<TurnQueue> turns = plugin.turns_of_export(threads))
    opened = std::make_unique<Turns>(std::move(opened), std::move(turns));
  return opened;
}

} // namespace

std::unique_ptr<Backend> CBackend::open(CPlugin &plugin, host::CallContext &context,
                                        unsigned threads, bool readonly, Submitter submitter) {
  host::ContextScope scope(&context);
  auto lock = plugin.serialize_calls();
  host::log_control("%s: open readonly=%d exportname=\"%s\" tls=%d", plugin.name().c_str(),
                    readonly, context.export_name.load(), context.tls);
  uint64_t messages = host::error_messages_on_this_thread();
  void *handle = plugin.table().open(readonly);
  if (handle == nullptr) {
    if (host::error_messages_on_this_thread() == messages)
      host::log_error("open of export \"%s\" failed, and the plugin gave no reason",
                      context.export_name.load());
    return nullptr;
  }
  std::unique_ptr<CBackend> backend(new CBackend(plugin, context, readonly));
  backend->handle_ = handle;
  return with_layers(plugin, std::move(backend), threads, submitter);
}

void CBackend::close() {
  host::ContextScope scope(&context_);
  auto lock = plugin_.serialize_calls();
  host::log_control("%s: close", plugin_.name().c_str());
  if (plugin_.table().close != nullptr)
    plugin_.table().close(handle_);
  handle_ = nullptr;
}

bool CBackend::ask(const char *question, int (*callback)(void *), bool if_missing, bool *answer) {
  int given = callback != nullptr ? callback(handle_) : if_missing;
  host::log_control("%s: %s: %d", plugin_.name().c_str(), question, given);
  if (given == -1) {
    host::log_error("%s failed, the export cannot be opened", question);
    return false;
  }
  *answer = given != 0;
  return true;
}

bool CBackend::ask_support(const char *question, int (*callback)(void *), Support if_missing,
                           Support *answer) {
  int given = callback != nullptr ? callback(handle_) : static_cast<int>(if_missing);
  host::log_control("%s: %s: %d", plugin_.name().c_str(), question, given);
  if (given < 0) {
    host::log_error("%s returned %d, the export cannot be opened", question, given);
    return false;
  }
  *answer = support_of(given);
  return true;
}

// Asked only if the export can be written, between can_write and can_flush.
bool CBackend::ask_of_writing(Facts *facts) {
  const struct nbdkit_plugin &table = plugin_.table();
  bool can_zero;
  const bool has_zero =
      table.zero != nullptr || table._zero_v1 != nullptr || table.async_zero != nullptr;
  if (!ask("can_zero", table.can_zero, has_zero, &can_zero))
    return false;
  facts->zero = can_zero ? Support::native : Support::emulate;
  // Zeroing by writing always refuses a fast zero at once, which is all that can_fast_zero
  // promises.
  bool always_refuses = (table.zero == nullptr && table.async_zero == nullptr) || !can_zero;
  if (!ask("can_fast_zero", table.can_fast_zero, always_refuses, &facts->can_fast_zero) ||
      !ask("can_trim", table.can_trim,
           table.trim != nullptr || table._trim_v1 != nullptr || table.async_trim != nullptr,
           &facts->can_trim))
    return false;

  if (!ask_support("can_fua", table.can_fua, has_flush(table) ? Support::emulate : Support::none,
                   &facts->fua))
    return false;
  // Version 1 callbacks have no flags to carry FUA.
  if (facts->fua == Support::native && table.pwrite == nullptr && table.async_pwrite == nullptr)
    facts->fua = Support::emulate;
  settle_fua(facts);
  return true;
}

// Asynchronous callbacks have always had a parameter for FUA, so the default is that they obey it.
void CBackend::settle_fua(Facts *facts) {
  const struct nbdkit_plugin &table = plugin_.table();
  const bool is_native = facts->fua == Support::native;
  const bool obeys = is_native || (table.can_fua == nullptr && facts->fua != Support::none);
  auto note = [&](uint16_t type, bool has_async, bool has_flags) {
    const bool is_async = has_async && plugin_.is_async();
    const bool takes_fua = is_async ? obeys : is_native && has_flags;
    if (takes_fua)
      facts->fua = Support::native;
    else
      facts->call_limits.without_fua |= 1u << type;
  };
  note(wire::NBD_CMD_WRITE, table.async_pwrite != nullptr, table.pwrite != nullptr);
  note(wire::NBD_CMD_TRIM, table.async_trim != nullptr, table.trim != nullptr);
  note(wire::NBD_CMD_WRITE_ZEROES, table.async_zero != nullptr, table.zero != nullptr);
}

bool CBackend::ask_all(Facts *facts) {
  const struct nbdkit_plugin &table = plugin_.table();
  int64_t size = table.get_size(handle_);
  host::log_control("%s: get_size: %" PRIi64, plugin_.name().c_str(), size);
  if (size < 0) {
    host::log_error("get_size returned %" PRIi64 ", the export cannot be opened", size);
    return false;
  }
  facts->size_bytes = static_cast<uint64_t>(size);

  const bool has_pwrite =
      table.pwrite != nullptr || table._pwrite_v1 != nullptr || table.async_pwrite != nullptr;
  const bool has_cache = table.cache != nullptr || table.async_cache != nullptr;
  const bool has_extents = table.extents != nullptr || table.async_extents != nullptr;
  if (!readonly_ && !ask("can_write", table.can_write, has_pwrite, &facts->can_write))
    return false;
  if (facts->can_write && !ask_of_writing(facts))
    return false;
  return ask("can_flush", table.can_flush, has_flush(table), &facts->can_flush) &&
         ask("is_rotational", table.is_rotational, false, &facts->is_rotational) &&
         ask("can_multi_conn", table.can_multi_conn, false, &facts->can_multi_conn) &&
         ask_support("can_cache", table.can_cache, has_cache ? Support::native : Support::none,
                     &facts->cache) &&
         ask("can_extents", table.can_extents, has_extents, &facts->can_extents);
}

bool CBackend::collect(const Wanted &wanted, Facts *facts, std::string *) {
  host::ContextScope scope(&context_);
  auto lock = plugin_.serialize_calls();
  facts->thread_model = plugin_.thread_model();
  facts->call_limits.longest_range_bytes = UINT32_MAX;
  facts->call_limits.takes_one_context = true;
  if (!ask_all(facts))
    return false;
  facts->has_sparse_reads = facts->can_extents && may_have_sparse_reads(plugin_);
  facts->serializes_connections = plugin_.thread_model() == ThreadModel::serialize_connections;
  facts->can_multi_conn = facts->can_multi_conn && !facts->serializes_connections;
  ask_for_descriptors(*facts);
  if (wanted.description)
    facts->description = ask_description();
  if (wanted.block_sizes)
    facts->block_sizes = ask_block_sizes();
  return true;
}

void CBackend::ask_for_descriptors(const Facts &facts) {
  const struct nbdkit_plugin &table = plugin_.table();
  if (table.read_fd != nullptr)
    read_fd_ = table.read_fd(handle_);
  const bool flushes_what_is_written = plugin_.is_async() || has_synchronous_flush(table);
  if (table.write_fd != nullptr && flushes_what_is_written && facts.can_write && facts.can_flush)
    write_fd_ = table.write_fd(handle_);
}

std::string CBackend::ask_description() {
  if (plugin_.table().export_description == nullptr)
    return {};
  const char *text = plugin_.table().export_description(handle_);
  return text != nullptr ? text : "";
}

std::optional<BlockSizes> CBackend::ask_block_sizes() {
  BlockSizes sizes;
  if (plugin_.table().block_size == nullptr)
    return sizes;
  if (plugin_.table().block_size(handle_, &sizes.minimum, &sizes.preferred, &sizes.maximum) == -1) {
    host::log_error("block_size failed");
    return std::nullopt;
  }
  return checked_block_sizes("", sizes);
}

} // namespace asyncnbd::backend
