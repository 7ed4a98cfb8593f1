// Shows clients the whole export as data: for plugins whose extents are slow or wrong.
#include <utility>

#include "filters/altered.hpp"
#include "filters/registry.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;

class NoextentsLayer final : public AlteredLayer {
public:
  using AlteredLayer::AlteredLayer;

private:
  bool alter(backend::Facts *facts, std::string *) const override {
    facts->can_extents = false;
    facts->has_sparse_reads = false; // the lookup would ask for extents
    return true;
  }
};

class NoextentsFilter final : public backend::Filter {
public:
  explicit NoextentsFilter(base::Threads &threads) : threads_(threads) {}

  const char *name() const override { return "noextents"; }
  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    return emulated(std::make_unique<NoextentsLayer>(std::move(*below)), threads_);
  }

private:
  base::Threads &threads_;
};

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_noextents(const FilterOptions &options,
                                                const backend::Resources &resources,
                                                std::string *error) {
  *error = OptionReader("noextents", options).error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<NoextentsFilter>(resources.threads);
}

const Registered registered_noextents("noextents", make_noextents);

} // namespace

} // namespace asyncnbd::filters
