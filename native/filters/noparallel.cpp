// Limits what is done in parallel: sets the thread model, by which the chain makes requests wait.
#include <utility>

#include "backend/layer.hpp"
#include "filters/registry.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::ThreadModel;

// For one client at a time: it must not be told that it could use several connections.
class SingleClientLayer final : public backend::PassingLayer {
public:
  using PassingLayer::PassingLayer;

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override {
    if (!PassingLayer::collect(wanted, facts, error))
      return false;
    facts->serializes_connections = true;
    facts->can_multi_conn = false;
    return true;
  }
};

class NoparallelFilter final : public backend::Filter {
public:
  explicit NoparallelFilter(ThreadModel model) : model_(model) {}

  const char *name() const override { return "noparallel"; }
  ThreadModel thread_model() const override { return model_; }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    if (model_ == ThreadModel::serialize_connections)
      return std::make_unique<SingleClientLayer>(std::move(*below));
    return std::move(*below);
  }

private:
  const ThreadModel model_;
};

// Option: serialize, "requests" (by default), "all-requests" or "connections". nullptr, with a
// message in `*error`, for an unknown option or an invalid value.
std::unique_ptr<backend::Filter> make_noparallel(const FilterOptions &options,
                                                 const backend::Resources &, std::string *error) {
  enum class Serialize : uint8_t { requests, all_requests, connections };
  OptionReader reader("noparallel", options);
  const auto serialize =
      reader.choice<Serialize>("serialize", {"requests", "all-requests", "connections"});
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  ThreadModel model = ThreadModel::serialize_requests;
  if (serialize == Serialize::all_requests)
    model = ThreadModel::serialize_all_requests;
  if (serialize == Serialize::connections)
    model = ThreadModel::serialize_connections;
  return std::make_unique<NoparallelFilter>(model);
}

const Registered registered_noparallel("noparallel", make_noparallel);

} // namespace

} // namespace asyncnbd::filters
