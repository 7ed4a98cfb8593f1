// Stands directly above a backend and emulates what that lacks, as nbdkit does: zeroes by writing,
// durable writes by a flush, caching by reading, one allocated extent, and ranges longer than a
// callback can take.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "backend/layer.hpp"
#include "backend/stepped_request.hpp"
#include "base/threads.hpp"

namespace asyncnbd::backend {

class Emulation;
class EmulatedRequest;

using EmulatedRequests = SteppedPool<EmulatedRequest, Emulation>;

// A request that takes more than one call.
class EmulatedRequest final : private SteppedRequest {
public:
  EmulatedRequest(Emulation &layer, EmulatedRequests &pool);

  void begin(Request &request, Caller caller);

private:
  enum class Step : uint8_t { command, pieces, flush };

  Next advance(int *error) override;
  void on_answered_later() override;
  void before_end(int error) override;
  void recycle() override;

  Step first_step() const;
  Next make_next(int *error);
  Next make_part(uint64_t offset, uint64_t left_bytes);
  Next make_piece(uint64_t offset, uint64_t left_bytes, int *error);
  Next make_status();
  void take_status();
  Next refuse(int error, const char *words, int *result);
  uint16_t fua_of(uint16_t type);

  Emulation &layer_;
  EmulatedRequests &pool_;
  Step step_ = Step::command;
  bool needs_flush_ = false;
  uint64_t done_bytes_ = 0;            // of the request, or of the range for one context
  size_t context_ = 0;                 // of a block status, the one being answered
  unsigned parts_ = 0;                 // how many parts of its range have been asked about
  std::unique_ptr<uint8_t[]> scratch_; // for data that is read only to be cached
};

// Belongs to one client. It passes the backend's facts up unchanged: `emulate` there means that
// this layer does it. Only the handshake makes flags for clients of that.
class Emulation final : public Layer {
public:
  // `threads` continue requests whose children are answered later.
  Emulation(std::unique_ptr<Backend> below, base::Threads &threads);

  // A durable write keeps its reservation: emulation refuses none, and does not change its data.
  Reservation reserve(Request &request) override;
  void unreserve(Request &request) override { below().unreserve(request); }
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override;
  void submit(Request &request, Caller caller) override;
  void give_up_unanswered() override;
  void release_idle_memory() override;

private:
  friend class EmulatedRequest;

  bool collect(const Wanted &wanted, Facts *facts, std::string *error) override;
  bool passes_on(const Request &request) const;
  bool passes_on_status(const Request &request) const;
  bool is_made_durable_below(uint16_t type) const;
  bool needs_flush(const Request &request) const;
  uint64_t part_bytes() const;

  CallLimits limits_;        // of the backend below
  uint32_t piece_bytes_ = 0; // the size of emulated reads and writes
  uint32_t zero_piece_bytes_ = 0;
  base::Threads &threads_;
  EmulatedRequests requests_{*this};
  // Pairs with nothing: the backend below gives up requests that begin meanwhile.
  std::atomic<bool> is_given_up_{false};
};

} // namespace asyncnbd::backend
