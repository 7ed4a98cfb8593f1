// Ends the server when its last client has left.
#include <atomic>
#include <utility>

#include "filters/client_count.hpp"
#include "filters/registry.hpp"
#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;

class ExitlastFilter final : public backend::Filter, public ClientCounter {
public:
  const char *name() const override { return "exitlast"; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    clients_++;
    return std::make_unique<CountedLayer>(std::move(*below), *this, opening.context);
  }

private:
  void on_client_left(host::CallContext &context) override {
    if (--clients_ > 0)
      return;
    host::ContextScope scope(&context);
    host::log_debug("exitlast: the last client has left, and the server ends");
    context.server->request_shutdown();
  }

  std::atomic<uint64_t> clients_{0};
};

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_exitlast(const FilterOptions &options,
                                               const backend::Resources &, std::string *error) {
  *error = OptionReader("exitlast", options).error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<ExitlastFilter>();
}

const Registered registered_exitlast("exitlast", make_exitlast);

} // namespace

} // namespace asyncnbd::filters
