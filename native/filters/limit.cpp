// Limits the number of clients at once.
#include <atomic>
#include <utility>

#include "filters/client_count.hpp"
#include "filters/registry.hpp"
#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;

class LimitFilter final : public backend::Filter, public ClientCounter {
public:
  explicit LimitFilter(uint64_t limit) : limit_(limit) {}

  const char *name() const override { return "limit"; }

  // Refuses clients before they cost anything. A client that passes this and opens an export later
  // is counted then.
  bool preconnect(const backend::Level &behind, bool readonly) override {
    if (!behind.preconnect(readonly))
      return false;
    if (limit_ == 0 || clients_ < limit_)
      return true;
    host::ContextScope scope(&behind.bottom->context());
    host::log_error("%s", refusal().c_str());
    return false;
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *error) override {
    if (clients_.fetch_add(1) >= limit_ && limit_ > 0) {
      clients_--;
      *error = refusal();
      return nullptr;
    }
    return std::make_unique<CountedLayer>(std::move(*below), *this, opening.context);
  }

private:
  void on_client_left(host::CallContext &) override { clients_--; }

  std::string refusal() const {
    return "filter limit: the client is refused: there are already " + std::to_string(limit_) +
           " clients, which is the limit";
  }

  const uint64_t limit_; // 0: none
  std::atomic<uint64_t> clients_{0};
};

// Option: limit, 1 by default; 0: any number. nullptr, with a message in `*error`, for an unknown
// option or an invalid value.
std::unique_ptr<backend::Filter> make_limit(const FilterOptions &options,
                                            const backend::Resources &, std::string *error) {
  OptionReader reader("limit", options);
  const uint64_t limit = reader.number("limit", 1, UINT32_MAX);
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<LimitFilter>(limit);
}

const Registered registered_limit("limit", make_limit);

} // namespace

} // namespace asyncnbd::filters
