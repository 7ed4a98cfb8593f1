// Decides how zero requests are handled.
#include <cerrno>
#include <utility>

#include "filters/altered.hpp"
#include "filters/registry.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Request;
using backend::Support;

enum class NozeroMode : uint8_t { none, emulate, notrim, plugin };
enum class Fast : uint8_t { as_below, none, slow, ignore };

class NozeroLayer final : public AlteredLayer {
public:
  NozeroLayer(std::unique_ptr<Backend> opened, bool is_readonly, NozeroMode mode, Fast fast)
      : AlteredLayer(std::move(opened)), is_readonly_(is_readonly), mode_(mode), fast_(fast) {}

  void submit(Request &request, backend::Caller caller) override {
    const bool is_fast = request.type == wire::NBD_CMD_WRITE_ZEROES &&
                         (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0;
    if (is_fast && fast_ == Fast::slow)
      request.complete(ENOTSUP);
    else
      AlteredLayer::submit(request, caller);
  }

private:
  bool alter(backend::Facts *facts, std::string *error) const override {
    const bool asks_below = mode_ == NozeroMode::notrim || mode_ == NozeroMode::plugin;
    if (asks_below && !is_readonly_ && facts->zero == Support::none) {
      *error = std::string("filter nozero: zeromode=") +
               (mode_ == NozeroMode::notrim ? "notrim" : "plugin") +
               " needs a plugin that can zero, and this export cannot";
      return false;
    }
    if (!asks_below)
      facts->zero = mode_ == NozeroMode::none ? Support::none : Support::emulate;
    if (mode_ == NozeroMode::emulate || fast_ != Fast::as_below)
      facts->can_fast_zero = fast_ != Fast::none;
    return true;
  }

  uint16_t flags_below(const Request &request) const override {
    unsigned flags = request.flags;
    if (request.type == wire::NBD_CMD_WRITE_ZEROES) {
      if (mode_ == NozeroMode::notrim)
        flags |= wire::NBD_CMD_FLAG_NO_HOLE;
      if (fast_ == Fast::ignore)
        flags &= ~unsigned{wire::NBD_CMD_FLAG_FAST_ZERO};
    }
    return static_cast<uint16_t>(flags);
  }

  const bool is_readonly_;
  const NozeroMode mode_;
  const Fast fast_;
};

class NozeroFilter final : public backend::Filter {
public:
  NozeroFilter(NozeroMode mode, Fast fast, base::Threads &threads)
      : mode_(mode), fast_(fast), threads_(threads) {}

  const char *name() const override { return "nozero"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    return emulated(
        std::make_unique<NozeroLayer>(std::move(*below), opening.is_readonly, mode_, fast_),
        threads_);
  }

private:
  const NozeroMode mode_;
  const Fast fast_;
  base::Threads &threads_;
};

// Options: mode, "none" (by default), "emulate", "notrim" or "plugin"; fast, "default", "none",
// "slow" or "ignore". nullptr, with a message in `*error`, for an unknown option or an invalid
// value.
std::unique_ptr<backend::Filter>
make_nozero(const FilterOptions &options, const backend::Resources &resources, std::string *error) {
  OptionReader reader("nozero", options);
  const auto mode = reader.choice<NozeroMode>("mode", {"none", "emulate", "notrim", "plugin"});
  const auto fast = reader.choice<Fast>("fast", {"default", "none", "slow", "ignore"});
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<NozeroFilter>(mode, fast, resources.threads);
}

const Registered registered_nozero("nozero", make_nozero);

} // namespace

} // namespace asyncnbd::filters
