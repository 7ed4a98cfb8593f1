// For clients that read sequentially, asks the backend below to cache the next parts of the disk.
#include <algorithm>
#include <atomic>
#include <utility>

#include "backend/layer.hpp"
#include "filters/ahead_requests.hpp"
#include "filters/registry.hpp"
#include "filters/shared_backend.hpp"
#include "host/context.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Request;
using backend::Reservation;
using backend::ThreadModel;

class ReadaheadLayer final : public backend::PassingLayer {
public:
  ReadaheadLayer(const std::shared_ptr<Backend> &opened,
                 std::shared_ptr<std::atomic<uint32_t>> of_all)
      : PassingLayer(std::make_unique<SharedBackend>(opened)),
        ahead_(std::make_shared<AheadRequests>(opened, std::move(of_all))) {}

  // Data that can be read at once need not be read ahead. Read-ahead comes first, because this
  // thread may wait until the read is done.
  void submit(Request &request, backend::Caller caller) override {
    if (request.type == wire::NBD_CMD_READ && !request.is_reserved)
      ahead_->on_read(request.offset, request.length_bytes, facts().size_bytes);
    below().submit(request, caller);
  }

  void on_client_gone() override {
    ahead_->stop();
    below().on_client_gone();
  }
  void on_server_stopping() override {
    ahead_->stop();
    below().on_server_stopping();
  }
  bool finalize() override {
    ahead_->wait_until_over();
    return below().finalize();
  }
  void close() override {
    ahead_->wait_until_over();
    below().close();
  }
  // A layer in front may have read while it was opened.
  void close_unused() override {
    ahead_->end_unused();
    below().close_unused();
  }

private:
  const std::shared_ptr<AheadRequests> ahead_;
};

class ReadaheadFilter final : public backend::Filter {
public:
  const char *name() const override { return "readahead"; }

  void get_ready(int thread_model) override {
    thread_model_ = static_cast<ThreadModel>(thread_model);
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &opening,
                                backend::DiskState *, std::string *) override {
    const backend::Facts &facts = (*below)->facts();
    const bool can_cache = facts.cache == backend::Support::native;
    const bool is_parallel = std::min(thread_model_, facts.thread_model) >= ThreadModel::parallel;
    if (can_cache && is_parallel) {
      const std::shared_ptr<Backend> opened = std::move(*below);
      return std::make_unique<ReadaheadLayer>(opened, in_flight_);
    }
    if (!has_warned_.exchange(true)) {
      host::ContextScope scope(&opening.context);
      host::log_error(
          "filter readahead does nothing, because the plugin or filter below cannot %s%s",
          can_cache ? "do several requests at once" : "cache",
          is_parallel ? "; put --filter=cache after it" : "");
    }
    return std::move(*below);
  }

private:
  ThreadModel thread_model_ = ThreadModel::async;           // set before the first client
  std::atomic<bool> has_warned_{false};                     // pairs with nothing
  const std::shared_ptr<std::atomic<uint32_t>> in_flight_ = // for all clients
      std::make_shared<std::atomic<uint32_t>>(0);
};

// Takes no options. nullptr, with a message in `*error`, if any are given.
std::unique_ptr<backend::Filter> make_readahead(const FilterOptions &options,
                                                const backend::Resources &, std::string *error) {
  *error = OptionReader("readahead", options).error();
  if (!error->empty())
    return nullptr;
  return std::make_unique<ReadaheadFilter>();
}

const Registered registered_readahead("readahead", make_readahead);

} // namespace

} // namespace asyncnbd::filters
