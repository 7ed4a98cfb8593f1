// Decides how FUA writes, which must be durable when they are answered, are handled.
#include <utility>

#include "filters/altered.hpp"
#include "filters/registry.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Request;
using backend::Support;

enum class FuaMode : uint8_t { none, emulate, native, force, pass, discard };

class FuaLayer final : public AlteredLayer {
public:
  FuaLayer(std::unique_ptr<Backend> opened, bool is_readonly, FuaMode mode)
      : AlteredLayer(std::move(opened)), is_readonly_(is_readonly), mode_(mode) {}

  // A flush has nothing to do if all writes are durable, or none needs to be.
  void submit(Request &request, backend::Caller caller) override {
    if (request.type == wire::NBD_CMD_FLUSH && ignores_flushes())
      request.complete(0);
    else
      AlteredLayer::submit(request, caller);
  }

private:
  bool alter(backend::Facts *facts, std::string *error) const override {
    if (!is_readonly_)
      *error = what_is_missing(*facts);
    if (!error->empty())
      return false;
    facts->fua = mode_ == FuaMode::none      ? Support::none
                 : mode_ == FuaMode::emulate ? Support::emulate
                                             : Support::native;
    facts->can_flush = facts->can_flush || ignores_flushes();
    if (mode_ == FuaMode::emulate) // the emulation directly above flushes after the write
      facts->call_limits = {};
    return true;
  }

  std::string what_is_missing(const backend::Facts &below) const {
    if (mode_ == FuaMode::emulate && !below.can_flush)
      return "filter fua: fuamode=emulate needs a plugin that can flush, and this export cannot";
    const bool needs_fua = mode_ == FuaMode::native || mode_ == FuaMode::force;
    if (needs_fua && below.fua == Support::none)
      return std::string("filter fua: fuamode=") + (mode_ == FuaMode::native ? "native" : "force") +
             " needs a plugin that can write durably, and this export cannot";
    return {};
  }

  bool ignores_flushes() const { return mode_ == FuaMode::force || mode_ == FuaMode::discard; }

  uint16_t flags_below(const Request &request) const override {
    unsigned flags = request.flags;
    if (mode_ == FuaMode::force && wire::is_change(request.type))
      flags |= wire::NBD_CMD_FLAG_FUA;
    if (mode_ == FuaMode::discard)
      flags &= ~unsigned{wire::NBD_CMD_FLAG_FUA};
    return static_cast<uint16_t>(flags);
  }

  const bool is_readonly_;
  const FuaMode mode_;
};

class FuaFilter final : public backend::Filter {
public:
  FuaFilter(FuaMode mode, base::Threads &threads) : mode_(mode), threads_(threads) {}

  const char *name() const override { return "fua"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    if (mode_ == FuaMode::pass)
      return std::move(*below);
    return emulated(std::make_unique<FuaLayer>(std::move(*below), opening.is_readonly, mode_),
                    threads_);
  }

private:
  const FuaMode mode_;
  base::Threads &threads_;
};

// Option: mode, "none" (by default), "emulate", "native", "force", "pass" or "discard". nullptr,
// with a message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_fua(const FilterOptions &options,
                                          const backend::Resources &resources, std::string *error) {
  OptionReader reader("fua", options);
  const auto mode =
      reader.choice<FuaMode>("mode", {"none", "emulate", "native", "force", "pass", "discard"});
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<FuaFilter>(mode, resources.threads);
}

const Registered registered_fua("fua", make_fua);

} // namespace

} // namespace asyncnbd::filters
