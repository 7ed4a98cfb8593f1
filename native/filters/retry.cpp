// When a request fails, closes the export below and opens it anew, and tries the request again;
// retry_layer.cpp does the work.
#include <utility>

#include "backend/emulate.hpp"
#include "filters/registry.hpp"
#include "filters/retry_layer.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;

class RetryFilter final : public backend::Filter {
public:
  RetryFilter(const RetrySettings &settings, const backend::Resources &resources)
      : settings_(settings), resources_(resources) {}

  const char *name() const override { return "retry"; }

  std::unique_ptr<Backend> open_behind(const backend::OpenBehind &open,
                                       const backend::Opening &opening, bool readonly,
                                       std::string *error) override {
    const auto open_once = [&](uint32_t retry, std::string *words) {
      return open(readonly || (retry > 0 && settings_.forces_readonly), words);
    };
    return open_repeatedly(open_once, settings_.repetition, opening.context, error);
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    auto layer =
        std::make_unique<RetryLayer>(std::move(*below), opening, settings_, resources_, slabs_);
    return std::make_unique<backend::Emulation>(std::move(layer), resources_.threads);
  }

private:
  const RetrySettings settings_;
  const backend::Resources resources_;
  RetrySlabs slabs_;
};

// Options: retries, after the first try; delayMs, before the first of them; exponential: each delay
// is twice the one before; readonly: once something has failed, the export is opened read-only.
// nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter>
make_retry(const FilterOptions &options, const backend::Resources &resources, std::string *error) {
  constexpr uint64_t DEFAULT_RETRIES = 5;
  constexpr uint64_t DEFAULT_MS = 2000;
  OptionReader reader("retry", options);
  RetrySettings settings;
  Repetition &repetition = settings.repetition;
  repetition.retries = static_cast<uint32_t>(reader.number("retries", DEFAULT_RETRIES, UINT32_MAX));
  repetition.delay =
      std::chrono::milliseconds(reader.number("delayMs", DEFAULT_MS, MAX_REPETITION_MS));
  repetition.is_exponential = reader.boolean("exponential", true);
  settings.forces_readonly = reader.boolean("readonly", false);
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<RetryFilter>(settings, resources);
}

const Registered registered_retry("retry", make_retry);

} // namespace

} // namespace asyncnbd::filters
