// An export of a C plugin (API versions 1 and 2, synchronous or asynchronous): calls the callback
// that serves a request. emulate.hpp, in front of it, does the work of missing callbacks.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "backend/backend.hpp"
#include "backend/bottom.hpp"
#include "backend/c_plugin.hpp"
#include "backend/operation.hpp"
#include "backend/operation_pool.hpp"
#include "host/context.hpp"

namespace asyncnbd::backend {

class CBackend final : public Backend {
public:
  // Calls the plugin's open. nullptr on failure, which has been logged. `context` outlives the
  // backend; its export_name must be set. The result includes the layers that every plugin in C
  // needs: emulation, reads without holes, and turns, up to `threads` at once if the plugin allows
  // more than one.
  static std::unique_ptr<Backend> open(CPlugin &plugin, host::CallContext &context,
                                       unsigned threads, bool readonly, Submitter submitter);

  Reservation reserve(Request &request) override;
  void unreserve(Request &request) override;
  void submit(Request &request, Caller caller) override;
  void give_up_unanswered() override;
  void release_idle_memory() override { operations_.trim(); }
  void close() override;

private:
  friend class Operation;

  CBackend(CPlugin &plugin, host::CallContext &context, bool readonly);

  // Asks the plugin. Refuses and logs answers that make no sense.
  bool collect(const Wanted &wanted, Facts *facts, std::string *error) override;
  bool ask_all(Facts *facts);
  bool ask_of_writing(Facts *facts);
  void settle_fua(Facts *facts);
  void ask_for_descriptors(const Facts &facts);
  std::string ask_description();
  std::optional<BlockSizes> ask_block_sizes();
  bool ask(const char *question, int (*callback)(void *), bool if_missing, bool *answer);
  bool ask_support(const char *question, int (*callback)(void *), Support if_missing,
                   Support *answer);

  // c_backend.cpp: requests on their way in and out. If `operation` is not nullptr, the result may
  // be PENDING; then operation and call must not be touched any more, because they may be gone.
  void submit_async(Request &request, Caller caller);
  int perform(Call &call, Operation *operation, Caller caller);
  int hand_over(Call &call, int error);
  int take_extents(Call &call);
  int on_reply(Operation &operation, const host::AsyncReply &reply);
  void on_late_reply(Operation &operation);
  bool fits(const Request &request, const host::AsyncReply &reply) const;
  Request &end_operation(Operation &operation);

  // c_calls.cpp: the plugin's callbacks, each asynchronous if it can be. Return 0, an errno or
  // PENDING.
  static constexpr int PENDING = -1;
  template <typename Callback> int start(Operation &operation, Callback callback);
  uint8_t *lend(uint64_t offset, uint32_t length_bytes);
  uint8_t *place(uint64_t offset, uint32_t length_bytes);
  int read(Request &request, Operation *operation);
  bool pipe(Request &request, bool may_wait);
  int write_pages(Call &call, Operation *operation);
  int write(const Request &request, Operation *operation, const uint8_t *data,
            uint32_t length_bytes, uint64_t offset);
  int flush(Operation *operation);
  int trim(const Request &request, Operation *operation);
  int zero(const Request &request, Operation *operation);
  int cache(const Request &request, Operation *operation);
  int extents(Call &call, Operation *operation);
  int block_status(Call &call, Operation *operation, uint32_t context, uint32_t flags);
  int outcome(int result) const;

  CPlugin &plugin_;
  const std::shared_ptr<CPlugin> plugin_is_needed_; // for requests that are never answered
  host::CallContext &context_;
  const bool readonly_;
  void *handle_ = nullptr;
  // Set before the first request, and to -1 once splicing has failed. They pair with nothing: a
  // thread that reads an old value tries once more.
  std::atomic<int> read_fd_{-1};  // to splice from
  std::atomic<int> write_fd_{-1}; // to splice to

  OperationPool operations_;
  // Pairs with nothing: the next give_up_unanswered finds requests that begin meanwhile.
  std::atomic<bool> given_up_{false};
};

} // namespace asyncnbd::backend
