// openonce's layer for one client, in front of the export that is open for all: the client's
// requests can be given up while those of others go on.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "backend/backend.hpp"
#include "backend/resources.hpp"
#include "base/mutex.hpp"
#include "base/slabs.hpp"

namespace asyncnbd::filters {

// The export that is open for all clients. Lives as long as any of them, or of their requests.
class OnceOpened {
public:
  OnceOpened(std::unique_ptr<backend::Backend> opened, const backend::Resources &resources)
      : backend_(std::move(opened)), resources_(resources) {}
  OnceOpened(const OnceOpened &) = delete;
  OnceOpened &operator=(const OnceOpened &) = delete;

  backend::Backend &backend() { return *backend_; }

  // After the last client. Requests that were given up for a client may still be in flight here:
  // their time is over, so they are given up here too. Blocks.
  void close();

private:
  friend class OnceRequest;

  const std::unique_ptr<backend::Backend> backend_;
  const backend::Resources resources_;
  std::atomic<uint32_t> in_flight_{0}; // released at an end, acquired by close
};

class OnceLayer;

// A client's request on its way to the shared export.
class OnceRequest final : private backend::Maker {
public:
  OnceRequest(OnceLayer &layer, backend::Request &request);

  void submit(backend::Caller caller);

private:
  friend class OnceLayer;

  void complete(backend::Request &child, int error) override;
  void give_up(backend::Request &child, int error) override;
  void release(backend::Request &child) override;
  bool client_has_gone() const override;
  void hand_over_answer();
  void drop();

  OnceLayer &layer_;
  const std::shared_ptr<OnceOpened> opened_;
  backend::Request &request_; // valid until it is answered, or released if given up
  backend::Request child_{};
  std::atomic<int> holders_{2}; // if given up: the thread that does so, and the late reply

  // Guarded by the layer's lock:
  OnceRequest *previous_ = nullptr; // in the list of requests that the client waits for
  OnceRequest *next_ = nullptr;
  bool is_given_up_ = false;
};

class OnceLayer final : public backend::Backend {
public:
  using Slabs = base::SlabsOf<OnceRequest>;

  // `opened` must be prepared.
  OnceLayer(std::shared_ptr<OnceOpened> opened, Slabs &slabs)
      : opened_(std::move(opened)), slabs_(slabs) {}

  backend::Reservation reserve(backend::Request &request) override {
    return opened_->backend().reserve(request);
  }
  void unreserve(backend::Request &request) override { opened_->backend().unreserve(request); }
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    return sizeof(OnceRequest) + opened_->backend().bytes_besides(type, length_bytes);
  }
  void submit(backend::Request &request, backend::Caller caller) override;
  void on_server_stopping() override { opened_->backend().on_server_stopping(); }
  void give_up_unanswered() override;
  void release_idle_memory() override { opened_->backend().release_idle_memory(); }
  void close() override {} // others may use it

private:
  friend class OnceRequest;

  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;
  void link(OnceRequest &one);
  void unlink(OnceRequest &one);
  bool end(OnceRequest &one, bool gives_up);

  const std::shared_ptr<OnceOpened> opened_;
  Slabs &slabs_; // owned by the filter

  base::Mutex<base::LockRank::once_requests> mutex_; // guards what follows
  OnceRequest *first_ = nullptr;                     // the requests that the client waits for
};

} // namespace asyncnbd::filters
