// Opens the export below once for all clients, and keeps it open until the server ends;
// once_layer.hpp has each client's layer.
#include <chrono>
#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

#include "base/mutex.hpp"
#include "filters/once_layer.hpp"
#include "filters/registry.hpp"
#include "host/context.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;

// The export may depend on these. A client without TLS must not get one that was opened for a
// client with TLS.
struct Wish {
  std::string export_name;
  bool is_readonly;
  bool is_tls;

  bool operator<(const Wish &other) const {
    return std::tie(export_name, is_readonly, is_tls) <
           std::tie(other.export_name, other.is_readonly, other.is_tls);
  }
};

// The first client opens it, and others that come meanwhile wait. If it fails, the next of them
// tries: the first one's opening may have been given up with its client.
struct Opened {
  bool is_over = false; // the opening has ended
  std::shared_ptr<OnceOpened> opened;
};

class OpenonceFilter final : public backend::Filter {
public:
  explicit OpenonceFilter(const backend::Resources &resources) : resources_(resources) {}

  const char *name() const override { return "openonce"; }
  bool opens_for_all() const override { return true; }

  // Later clients may want to know more than the first.
  backend::Wanted wanted_of_below(const backend::Wanted &) const override {
    return backend::WANTS_ALL;
  }

  std::unique_ptr<Backend> open_behind(const backend::OpenBehind &open,
                                       const backend::Opening &opening, bool readonly,
                                       std::string *error) override;
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    return std::move(*below);
  }
  void end() override;

private:
  // Clients choose the names, and some plugins accept any.
  static constexpr size_t MAX_OPEN = 1024;

  std::shared_ptr<OnceOpened> find(const Wish &wish, const backend::OpenBehind &open,
                                   const host::ServerContext &server, std::string *error);

  const backend::Resources resources_;
  OnceLayer::Slabs slabs_;
  base::Mutex<base::LockRank::once_opened> mutex_; // guards the rest
  base::Condition changed_;
  std::map<Wish, std::shared_ptr<Opened>> opened_;
};

std::unique_ptr<Backend> OpenonceFilter::open_behind(const backend::OpenBehind &open,
                                                     const backend::Opening &opening, bool readonly,
                                                     std::string *error) {
  std::shared_ptr<OnceOpened> found = find({opening.export_name, readonly, opening.context.tls},
                                           open, *opening.context.server, error);
  if (found == nullptr)
    return nullptr;
  auto layer = std::make_unique<OnceLayer>(std::move(found), slabs_);
  return layer->prepare(backend::WANTS_ALL, error) ? std::move(layer) : nullptr;
}

std::shared_ptr<OnceOpened> OpenonceFilter::find(const Wish &wish, const backend::OpenBehind &open,
                                                 const host::ServerContext &server,
                                                 std::string *error) {
  constexpr std::chrono::milliseconds LOOK_AGAIN_AFTER{50};
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto found = opened_.find(wish);
    if (found == opened_.end())
      break;
    const std::shared_ptr<Opened> here = found->second;
    while (!here->is_over && !server.is_stopping())
      changed_.wait_until(lock, std::chrono::steady_clock::now() + LOOK_AGAIN_AFTER);
    if (!here->is_over) {
      *error = "filter openonce: the server stops while the export is being opened";
      return nullptr;
    }
    if (here->opened != nullptr)
      return here->opened;
  }
  if (opened_.size() >= MAX_OPEN) {
    *error = "filter openonce: too many exports are open already: " + std::to_string(MAX_OPEN);
    return nullptr;
  }
  const auto here = std::make_shared<Opened>();
  opened_[wish] = here;
  lock.unlock();
  if (std::unique_ptr<Backend> opened = open(wish.is_readonly, error))
    here->opened = std::make_shared<OnceOpened>(std::move(opened), resources_);
  lock.lock();
  here->is_over = true;
  if (here->opened == nullptr)
    opened_.erase(wish);
  changed_.notify_all();
  return here->opened;
}

void OpenonceFilter::end() {
  std::map<Wish, std::shared_ptr<Opened>> closed;
  {
    std::lock_guard lock(mutex_);
    closed.swap(opened_);
  }
  for (const auto &[wish, here] : closed)
    if (here->opened != nullptr)
      here->opened->close();
}

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_openonce(const FilterOptions &options,
                                               const backend::Resources &resources,
                                               std::string *error) {
  *error = OptionReader("openonce", options).error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<OpenonceFilter>(resources);
}

const Registered registered_openonce("openonce", make_openonce);

} // namespace

} // namespace asyncnbd::filters
