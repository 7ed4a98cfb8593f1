// A C plugin as the bottom of a chain, for one client.
#pragma once

#include <memory>
#include <string>

#include "backend/bottom.hpp"
#include "backend/c_plugin.hpp"
#include "host/context.hpp"

namespace asyncnbd::backend {

class CBottom final : public Bottom {
public:
  CBottom(std::shared_ptr<CPlugin> plugin, host::CallContext &context, unsigned threads)
      : plugin_(std::move(plugin)), context_(context), threads_(threads) {}

  host::CallContext &context() override { return context_; }
  const Resources &resources() override { return plugin_->resources(); }
  ThreadModel thread_model() override { return plugin_->thread_model(); }
  unsigned threads() override { return threads_; }
  bool preconnect(bool readonly) override;
  std::optional<std::vector<ExportEntry>> list_exports(bool readonly) override;
  std::optional<std::string> default_export(bool readonly) override;
  std::unique_ptr<Backend> open(const std::string &export_name, bool readonly,
                                Submitter submitter) override;
  std::shared_ptr<Bottom> of_no_client() override;

private:
  const std::shared_ptr<CPlugin> plugin_;
  host::CallContext &context_;
  const unsigned threads_;
};

} // namespace asyncnbd::backend
