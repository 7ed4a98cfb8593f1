// Decides how cache requests are handled.
#include <utility>

#include "filters/altered.hpp"
#include "filters/registry.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Request;
using backend::Support;

enum class NocacheMode : uint8_t { none, emulate, nop };

class NocacheLayer final : public AlteredLayer {
public:
  NocacheLayer(std::unique_ptr<Backend> opened, NocacheMode mode)
      : AlteredLayer(std::move(opened)), mode_(mode) {}

  void submit(Request &request, backend::Caller caller) override {
    if (mode_ == NocacheMode::nop && request.type == wire::NBD_CMD_CACHE)
      request.complete(0);
    else
      AlteredLayer::submit(request, caller);
  }

private:
  bool alter(backend::Facts *facts, std::string *) const override {
    facts->cache = mode_ == NocacheMode::none      ? Support::none
                   : mode_ == NocacheMode::emulate ? Support::emulate
                                                   : Support::native;
    return true;
  }

  const NocacheMode mode_;
};

class NocacheFilter final : public backend::Filter {
public:
  NocacheFilter(NocacheMode mode, base::Threads &threads) : mode_(mode), threads_(threads) {}

  const char *name() const override { return "nocache"; }
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    return emulated(std::make_unique<NocacheLayer>(std::move(*below), mode_), threads_);
  }

private:
  const NocacheMode mode_;
  base::Threads &threads_;
};

// Option: mode, "none" (by default): clients cannot send them; "emulate": they read; "nop": they do
// nothing. nullptr, with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_nocache(const FilterOptions &options,
                                              const backend::Resources &resources,
                                              std::string *error) {
  OptionReader reader("nocache", options);
  const auto mode = reader.choice<NocacheMode>("mode", {"none", "emulate", "nop"});
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<NocacheFilter>(mode, resources.threads);
}

const Registered registered_nocache("nocache", make_nocache);

} // namespace

} // namespace asyncnbd::filters
