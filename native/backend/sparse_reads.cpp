// See sparse_reads.hpp.
#include "backend/sparse_reads.hpp"

#include <algorithm>
#include <utility>

#include "wire/commands.hpp"

namespace asyncnbd::backend {

SparseRead::SparseRead(SparseReads &layer, SparseReadPool &pool)
    : SteppedRequest(layer.below()), layer_(layer), pool_(pool) {}

void SparseRead::begin(Request &request, Caller caller) {
  SteppedRequest::begin(request);
  is_looking_up_ = true;
  done_bytes_ = 0;
  make_child(wire::NBD_CMD_BLOCK_STATUS, 0, request.offset, request.length_bytes, nullptr);
  child().make_extras().statuses.push_back({0, ContextStatus::ALLOCATION, {}});
  run(Next::child, 0, caller);
}

SparseRead::Next SparseRead::advance(int *error) {
  if (is_looking_up_) {
    is_looking_up_ = false;
    if (std::exchange(*error, 0) == 0)
      request().note_extents(child().extras->statuses.front().extents);
    return take_lookup();
  }
  if (*error != 0)
    return Next::end;
  done_bytes_ += child().length_bytes;
  return make_run();
}

// If the lookup fails, everything is read.
SparseRead::Next SparseRead::take_lookup() {
  child().extras.reset(); // its error text does not belong to the read
  if (request().is_reserved)
    return Next::end;
  return request().extras && request().extras->runs ? make_run() : Next::pass_on;
}

// Skips holes.
SparseRead::Next SparseRead::make_run() {
  for (const Run &run : *request().extras->runs) {
    if (run.offset != request().offset + done_bytes_)
      continue;
    if (!run.is_hole) {
      make_child(wire::NBD_CMD_READ, 0, run.offset, run.length_bytes, request().data + done_bytes_);
      return Next::child;
    }
    done_bytes_ += run.length_bytes;
  }
  return Next::end;
}

void SparseRead::on_answered_later() {
  const auto go_on = [this](Caller caller) {
    int error = child_error();
    const Next next = advance(&error);
    run(next, error, caller);
  };
  go_on_elsewhere(layer_.threads_, go_on);
}

// Data that was read before the error can be sent.
void SparseRead::before_end(int error) {
  if (error == 0 || !request().extras)
    return;
  if (done_bytes_ > 0)
    request().extras->error_offset = request().offset + done_bytes_;
  else
    request().extras->runs.reset();
}

SparseReads::SparseReads(std::unique_ptr<Backend> below, base::Threads &threads)
    : PassingLayer(std::move(below)), threads_(threads) {}

// The lookup ends before anything is read, so the two do not add up.
uint32_t SparseReads::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  const uint32_t bytes = below().bytes_besides(type, length_bytes);
  if (type != wire::NBD_CMD_READ || length_bytes < MIN_SPARSE_BYTES || !facts().has_sparse_reads)
    return bytes;
  return static_cast<uint32_t>(sizeof(SparseRead)) +
         std::max(bytes, below().bytes_besides(wire::NBD_CMD_BLOCK_STATUS, length_bytes));
}

void SparseReads::submit(Request &request, Caller caller) {
  SparseRead *sparse = request.may_have_holes ? reads_.get() : nullptr;
  if (sparse != nullptr)
    sparse->begin(request, caller);
  else
    below().submit(request, caller);
}

void SparseReads::release_idle_memory() {
  reads_.trim();
  below().release_idle_memory();
}

} // namespace asyncnbd::backend
