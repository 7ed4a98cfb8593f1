// A layer in front of a backend: passes everything on, except what a derived class changes.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "backend/backend.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::backend {

// Belongs to one connection. To see a request's answer, a layer pushes itself on the request; see
// Completer. Refuses reservations: a layer that may always pass them on is a PassingLayer; one that
// sometimes may overrides `reserve` and `unreserve`.
class Layer : public Backend {
public:
  explicit Layer(std::unique_ptr<Backend> below) : below_(std::move(below)) {}

  bool finalize() override { return below_->finalize(); }
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override {
    return below_->bytes_besides(type, length_bytes);
  }
  void submit(Request &request, Caller caller) override { below_->submit(request, caller); }
  void on_client_gone() override { below_->on_client_gone(); }
  void on_server_stopping() override { below_->on_server_stopping(); }
  void give_up_unanswered() override { below_->give_up_unanswered(); }
  void release_idle_memory() override { below_->release_idle_memory(); }
  void close() override { below_->close(); }
  void close_unused() override { below_->close_unused(); }

protected:
  // A derived class calls this first, then changes `*facts`.
  bool collect(const Wanted &wanted, Facts *facts, std::string *error) override {
    if (!below_->prepare(wanted, error))
      return false;
    *facts = below_->facts();
    facts->call_limits = {};
    return true;
  }

  // Answers a request without submitting it below.
  void refuse(Request &request, int error) {
    if (request.is_reserved && request.type == wire::NBD_CMD_WRITE)
      unreserve(request);
    request.complete(error);
  }

  Backend &below() { return *below_; }
  const Backend &below() const { return *below_; }

private:
  const std::unique_ptr<Backend> below_;
};

// Passes reservations on too.
class PassingLayer : public Layer {
public:
  using Layer::Layer;

  Reservation reserve(Request &request) override { return below().reserve(request); }
  void unreserve(Request &request) override { below().unreserve(request); }
};

} // namespace asyncnbd::backend
