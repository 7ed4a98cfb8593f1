// A shared backend below a layer that makes requests of its own: a plugin may go on using such a
// request after it was given up, long after the layer and its client are gone.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "backend/backend.hpp"

namespace asyncnbd::filters {

// Passes everything on to the shared backend.
class SharedBackend final : public backend::Backend {
public:
  explicit SharedBackend(std::shared_ptr<Backend> shared) : shared_(std::move(shared)) {}

  bool finalize() override { return shared_->finalize(); }
  backend::Reservation reserve(backend::Request &request) override {
    return shared_->reserve(request);
  }
  void unreserve(backend::Request &request) override { shared_->unreserve(request); }
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    return shared_->bytes_besides(type, length_bytes);
  }
  void submit(backend::Request &request, backend::Caller caller) override {
    shared_->submit(request, caller);
  }
  void on_client_gone() override { shared_->on_client_gone(); }
  void on_server_stopping() override { shared_->on_server_stopping(); }
  void give_up_unanswered() override { shared_->give_up_unanswered(); }
  void release_idle_memory() override { shared_->release_idle_memory(); }
  void close() override { shared_->close(); }
  void close_unused() override { shared_->close_unused(); }

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override {
    if (!shared_->prepare(wanted, error))
      return false;
    *facts = shared_->facts();
    return true;
  }

  const std::shared_ptr<Backend> shared_;
};

} // namespace asyncnbd::filters
