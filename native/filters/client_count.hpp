// A layer that only notices when its client leaves.
#pragma once

#include <memory>
#include <utility>

#include "backend/layer.hpp"
#include "backend/request.hpp"
#include "host/context.hpp"

namespace asyncnbd::filters {

// Counts clients.
class ClientCounter {
public:
  // Called once for each layer, when its client has left.
  virtual void on_client_left(host::CallContext &context) = 0;

protected:
  ~ClientCounter() = default;
};

class CountedLayer final : public backend::PassingLayer {
public:
  CountedLayer(std::unique_ptr<backend::Backend> opened, ClientCounter &counter,
               host::CallContext &context)
      : PassingLayer(std::move(opened)), counter_(counter), context_(context) {}

  void close() override {
    counter_.on_client_left(context_); // first, as under nbdkit: the plugin's close may take long
    below().close();
  }
  void close_unused() override {
    counter_.on_client_left(context_);
    below().close_unused();
  }

private:
  ClientCounter &counter_;
  host::CallContext &context_;
};

} // namespace asyncnbd::filters
