// Reads only data, not holes: before a read that may have holes, asks the backend below where its
// data is. For a backend that answers that at once.
#pragma once

#include <memory>

#include "backend/layer.hpp"
#include "backend/stepped_request.hpp"
#include "base/threads.hpp"

namespace asyncnbd::backend {

// Shorter reads are not worth a lookup.
constexpr uint64_t MIN_SPARSE_BYTES = 16 << 10;

class SparseReads;
class SparseRead;

using SparseReadPool = SteppedPool<SparseRead, SparseReads>;

// A read that may have holes.
class SparseRead final : private SteppedRequest {
public:
  SparseRead(SparseReads &layer, SparseReadPool &pool);

  void begin(Request &request, Caller caller);

private:
  Next advance(int *error) override;
  void on_answered_later() override;
  void before_end(int error) override;
  void recycle() override { pool_.put(*this); }

  Next take_lookup();
  Next make_run();

  SparseReads &layer_;
  SparseReadPool &pool_;
  bool is_looking_up_ = false;
  uint64_t done_bytes_ = 0;
};

// Belongs to one client.
class SparseReads final : public PassingLayer {
public:
  // `threads` continue reads that were answered later.
  SparseReads(std::unique_ptr<Backend> below, base::Threads &threads);

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override;
  void submit(Request &request, Caller caller) override;
  void release_idle_memory() override;

private:
  friend class SparseRead;

  base::Threads &threads_;
  SparseReadPool reads_{*this};
};

} // namespace asyncnbd::backend
