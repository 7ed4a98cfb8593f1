// An export of a synchronous C plugin (API versions 1 and 2): a backend that completes a request
// before submit returns, and does itself what the plugin leaves out.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.hpp"
#include "backend/c_plugin.hpp"
#include "host/context.hpp"

namespace asyncnbd::backend {

class CBackend final : public Backend {
public:
  // Calls the plugin's open and every question about capabilities. nullptr on failure, which has
  // been logged. `context` outlives the backend; its export_name must be set.
  static std::unique_ptr<CBackend> open(CPlugin &plugin, host::CallContext &context, bool readonly);

  const Capabilities &capabilities() const override { return capabilities_; }
  ThreadModel thread_model() const override { return plugin_.thread_model(); }
  void submit(Request &request) override;
  void close() override;

  // Asked only when a client wants to know; before the first request.
  std::string description();
  // False, having logged the reason, if the plugin fails or answers nonsense.
  bool block_sizes(BlockSizes *sizes);

private:
  CBackend(CPlugin &plugin, host::CallContext &context) : plugin_(plugin), context_(context) {}

  bool read_capabilities(bool readonly);
  bool read_write_capabilities();
  bool ask(const char *question, int (*callback)(void *), bool if_missing, bool *answer);
  bool ask_support(const char *question, int (*callback)(void *), Support if_missing,
                   Support *answer);

  // Each returns 0 or an errno.
  int perform(const Request &request);
  int read(uint8_t *data, uint32_t length_bytes, uint64_t offset);
  int write(const uint8_t *data, uint32_t length_bytes, uint64_t offset, bool fua);
  int write_one(const uint8_t *data, uint32_t length_bytes, uint64_t offset, uint32_t flags);
  int flush();
  int trim(uint32_t length_bytes, uint64_t offset, bool fua);
  int zero(const Request &request);
  int zero_natively(const Request &request);
  int zero_by_writing(const Request &request);
  int cache(uint32_t length_bytes, uint64_t offset);
  int cache_by_reading(uint32_t length_bytes, uint64_t offset);
  int flush_if(int error, bool fua);
  uint32_t native_fua(bool fua) const;
  int outcome(int result) const;

  CPlugin &plugin_;
  host::CallContext &context_;
  void *handle_ = nullptr;
  Capabilities capabilities_;
};

} // namespace asyncnbd::backend
