// An export of a C plugin (API versions 1 and 2, synchronous or asynchronous): which callback
// serves a request, and what stands in for one that is missing.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "backend/backend.hpp"
#include "backend/c_plugin.hpp"
#include "backend/operation.hpp"
#include "backend/operation_pool.hpp"
#include "host/context.hpp"

namespace asyncnbd::backend {

class CBackend final : public Backend {
public:
  // Calls the plugin's open and every question about capabilities. nullptr on failure, which has
  // been logged. `context` outlives the backend; its export_name must be set.
  // Requests take turns, up to `threads` at once where the plugin can take more than one.
  static std::unique_ptr<Backend> open(CPlugin &plugin, host::CallContext &context,
                                       unsigned threads, bool readonly);

  const Capabilities &capabilities() const override { return capabilities_; }
  ThreadModel thread_model() const override { return plugin_.thread_model(); }
  Reservation reserve(Request &request) override;
  void unreserve(Request &request) override;
  void submit(Request &request, Caller caller) override;
  void give_up_unanswered() override;
  void release_idle_memory() override { operations_.trim(); }
  void close() override;

  // Asked only when a client wants to know; answers of the plugin's that make no sense are refused.
  std::string description() override;
  bool block_sizes(BlockSizes *sizes) override;

private:
  friend class Operation;

  CBackend(CPlugin &plugin, host::CallContext &context);

  bool read_capabilities(bool readonly);
  bool read_write_capabilities();
  bool ask(const char *question, int (*callback)(void *), bool if_missing, bool *answer);
  bool ask_support(const char *question, int (*callback)(void *), Support if_missing,
                   Support *answer);

  // c_backend.cpp: the steps of a request. Where `operation` is not nullptr, the result may be
  // PENDING; then operation and progress must not be touched any more, they may be gone.
  void submit_async(Request &request);
  int run(Progress &progress, Operation *operation);
  int perform(Progress &progress, Operation *operation);
  bool has_next_step(Progress &progress, int *error) const;
  bool has_data_left(Progress &progress, int *error) const;
  static bool skip_hole(Progress &progress);
  static bool has_next_context(Progress &progress, int *error);
  static std::vector<Extent> take_extents(Progress &progress);
  static void keep_run(const Progress &progress, const uint8_t *data);
  Step first_step(const Request &request) const;
  int on_reply(Operation &operation, const host::AsyncReply &reply);
  void on_late_reply(Operation &operation);
  bool fits(const Progress &progress, const host::AsyncReply &reply) const;
  void go_on_elsewhere(Operation &operation);
  Request &end_operation(Operation &operation);

  // c_calls.cpp: the plugin's callbacks, each asynchronous if it can be. Return 0, an errno or
  // PENDING.
  static constexpr int PENDING = -1;
  template <typename Callback> int start(Operation &operation, Callback callback);
  uint8_t *lend(uint64_t offset, uint32_t length_bytes);
  uint8_t *place(uint64_t offset, uint32_t length_bytes);
  int read(const Progress &progress, Operation *operation, uint8_t *data, uint64_t offset);
  bool pipe(const Progress &progress);
  int write_pages(Progress &progress);
  int write(Progress &progress, Operation *operation, const uint8_t *data, uint32_t length_bytes,
            uint64_t offset);
  int flush(Operation *operation);
  int trim(Progress &progress, Operation *operation);
  int zero(Progress &progress, Operation *operation);
  int cache(Progress &progress, Operation *operation);
  int extents(Progress &progress, Operation *operation);
  int block_status(Progress &progress, Operation *operation, uint32_t context, uint32_t flags);
  int read_run(Progress &progress, Operation *operation);
  int write_zero_piece(Progress &progress, Operation *operation);
  int cache_piece(Progress &progress, Operation *operation);
  bool native_fua(Progress &progress, bool by_async_callback, bool has_flags = true) const;
  int outcome(int result) const;
  static int hand_over(Progress &progress, int error);

  CPlugin &plugin_;
  const std::shared_ptr<CPlugin> plugin_is_needed_; // by requests that are never answered
  host::CallContext &context_;
  void *handle_ = nullptr;
  Capabilities capabilities_;
  // Set before the first request, and to -1 once it turns out that it cannot be: they pair with
  // nothing, who reads an old value tries once more.
  std::atomic<int> read_fd_{-1};  // that can be spliced from
  std::atomic<int> write_fd_{-1}; // and to

  OperationPool operations_;
  // Pairs with nothing: what begins meanwhile, the next give_up_unanswered finds.
  std::atomic<bool> given_up_{false};
};

} // namespace asyncnbd::backend
