// One of nbdkit's filters, open for one client: a layer whose requests the filter serves on the
// submitting thread, which waits.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "backend/level.hpp"
#include "base/mutex.hpp"
#include "cplugin/c_filter.hpp"
#include "cplugin/filter_backend.hpp"
#include "cplugin/filter_next.hpp"
#include "host/context.hpp"

namespace asyncnbd::cplugin {
class FilterLayer;
}

// The open filter itself, as filters know it.
struct nbdkit_context {
  asyncnbd::cplugin::FilterLayer *layer;
};

namespace asyncnbd::cplugin {

class FilterLayer final : public FilterBackend {
public:
  // Calls the filter's open, which may open what is behind it. nullptr on failure, with a message
  // in `*error` unless it has been logged.
  static std::unique_ptr<backend::Backend> open(CFilter &filter, nbdkit_backend &place,
                                                const backend::Level &behind,
                                                const std::string &export_name, bool readonly,
                                                std::string *error);

  // ---- for the layer in front of it

  bool finalize() override;
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override;
  void submit(backend::Request &request, backend::Caller caller) override;
  void on_client_gone() override;
  void on_server_stopping() override;
  void give_up_unanswered() override;
  void release_idle_memory() override;
  void close() override { close_with(&Next::close); }
  void close_unused() override { close_with(&Next::close_unused); }

  // ---- for a filter in front of it

  int pread(void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err) override;
  int pwrite(const void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err) override;
  int flush(uint32_t flags, int *err) override;
  int trim(uint32_t count, uint64_t offset, uint32_t flags, int *err) override;
  int zero(uint32_t count, uint64_t offset, uint32_t flags, int *err) override;
  int extents(uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents *extents,
              int *err) override;
  int cache(uint32_t count, uint64_t offset, uint32_t flags, int *err) override;

  // ---- for the filter itself

  nbdkit_backend &backend() { return place_; }
  // Returns the previous one.
  Next *set_next(Next *next);
  // Closes a Next that is not next_ any more; requests in flight there can be given up meanwhile.
  using Close = void (Next::*)();
  void close_before(Next *before, Close close);

private:
  FilterLayer(CFilter &filter, nbdkit_backend &place, const backend::Level &behind, bool readonly);

  static int open_next(nbdkit_context *context, int readonly, const char *exportname);
  bool call_open(const std::string &export_name, bool readonly, std::string *error);
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;
  bool prepare_itself();
  void close_with(Close close);
  // Ask the filter, or what is behind it.
  bool ask_all(backend::Facts *facts);
  bool ask_of_writing(backend::Facts *facts);
  bool ask(Fact fact, bool *can);
  bool ask(Fact fact, backend::Support *support);
  int ask(Fact fact);
  int64_t ask_size();
  std::string ask_description();
  std::optional<backend::BlockSizes> ask_block_sizes();

  // filter_requests.cpp
  int perform(backend::Request &request, uint64_t *done_bytes);
  uint64_t most_bytes_of(const backend::Request &request);
  int perform_in_pieces(backend::Request &request, uint64_t *done_bytes);
  int perform_block_status(backend::Request &request);
  int zero_by_writing(uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int cache_by_reading(uint32_t count, uint64_t offset, int *err);

  std::shared_ptr<backend::Backend> shared_behind() const;
  std::shared_ptr<backend::Backend> own_behind() const;
  int missing_next(int *err) const;

  const nbdkit_filter &table() const { return filter_.table(); }
  const char *name() const { return filter_.name().c_str(); }

  CFilter &filter_;
  host::CallContext &context_;
  nbdkit_backend &place_;
  const backend::Level behind_;
  nbdkit_context self_{this};
  const bool readonly_;
  void *handle_ = nullptr;

  // Changed on the chain's own thread, or inside the client's only request, in which nbdkit's retry
  // filter opens again.
  enum class State { open, prepared, failed };
  State state_ = State::open;

  // Every request reads it. Whoever changes it ensures that no request is in progress, or that the
  // change does a request no harm.
  std::atomic<Next *> next_{nullptr};
  std::atomic<bool> is_stopping_{false}; // pairs with nothing: giving up is tried again
  mutable base::Mutex<base::LockRank::filter_next> mutex_; // guards what follows
  std::shared_ptr<backend::Backend> backend_;              // belongs to next_
  bool is_of_all_ = false;                                 // it belongs to no client
  std::shared_ptr<backend::Backend> closing_;              // the previous one, while it closes
};

} // namespace asyncnbd::cplugin
