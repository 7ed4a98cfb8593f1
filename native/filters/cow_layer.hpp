// A client's layer of the cow filter: decides which requests pass, which are done at once, and
// which need an operation. See cow.cpp.
#pragma once

#include <memory>

#include "backend/layer.hpp"
#include "filters/cow_client.hpp"
#include "filters/cow_operation.hpp"

namespace asyncnbd::filters {

class CowLayer final : public backend::Layer {
public:
  CowLayer(std::unique_ptr<backend::Backend> opened, const backend::Opening &opening,
           const CowSettings &settings, CowDisk &disk);

  backend::Reservation reserve(backend::Request &request) override;
  void unreserve(backend::Request &request) override;
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override;
  void submit(backend::Request &request, backend::Caller caller) override;
  void give_up_unanswered() override;
  void release_idle_memory() override;

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;
  // Whether all of a request's blocks have one state.
  bool are_all(const backend::Request &request, CowState *state) const;
  bool copies(const backend::Request &request) const;
  uint8_t *begin_receiving(const backend::Request &request);
  bool passes_on(const backend::Request &request) const;
  bool perform_now(backend::Request &request, int *error);

  const bool is_readonly_;
  CowClient client_;
  CowOperations operations_;
};

} // namespace asyncnbd::filters
