// A client's layer of the cache filter: decides which requests pass, which are done at once, and
// which need an operation. See cache.cpp.
#pragma once

#include <memory>

#include "backend/layer.hpp"
#include "filters/cache_client.hpp"
#include "filters/cache_operation.hpp"

namespace asyncnbd::filters {

class CacheLayer final : public backend::Layer {
public:
  CacheLayer(std::unique_ptr<backend::Backend> opened, host::CallContext &context,
             const CacheSettings &settings, CacheDisk &disk);

  backend::Reservation reserve(backend::Request &request) override;
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override;
  void submit(backend::Request &request, backend::Caller caller) override;
  void give_up_unanswered() override;
  void release_idle_memory() override;

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;
  bool has_none(const backend::Request &request, unsigned states) const;
  bool has_all(const backend::Request &request) const;
  bool keeps(const backend::Request &request) const;
  bool passes_on(const backend::Request &request) const;
  bool is_done(const backend::Request &request, int *error) const;
  bool perform_now(backend::Request &request, int *error);
  bool read_now(backend::Request &request, int *error);

  CacheClient client_;
  CacheOperations operations_;
};

} // namespace asyncnbd::filters
