// See request_counters.hpp.
#include "filters/request_counters.hpp"

#include <chrono>
#include <new>

namespace asyncnbd::filters {

namespace {

constexpr auto RELAXED = std::memory_order_relaxed;

unsigned bits_of(uint64_t number) {
  return static_cast<unsigned>(std::bit_width(number)) - 1; // `number` is at least 1
}

} // namespace

RequestCounters::RequestCounters() : places_(std::make_unique<std::array<Place, PLACES>>()) {}

RequestCounters::~RequestCounters() {
  for (Place &place : *places_)
    for (Kind &kind : place.kinds)
      for (std::atomic<Sizes *> &sizes : kind.sizes)
        delete sizes.load(std::memory_order_acquire);
}

void RequestCounters::record(size_t place, const backend::Request &request, int error,
                             base::Duration time) {
  Kind &kind = (*places_)[place].kinds[request.type];
  const auto ns =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
  kind.latencies.record(ns);
  (error == 0 ? kind.done_ns : kind.failed_ns).fetch_add(ns, RELAXED);
  (error == 0 ? kind.done : kind.failed).fetch_add(1, RELAXED);
  if (error != 0)
    return;
  kind.bytes.fetch_add(request.length_bytes, RELAXED);
  if (!counts_sizes_ || request.length_bytes == 0)
    return;
  if (Sizes *sizes = sizes_of(kind, bits_of(request.length_bytes))) {
    sizes->bytes.fetch_add(request.length_bytes, RELAXED);
    sizes->aligned[static_cast<size_t>(std::countr_zero(request.offset))].fetch_add(1, RELAXED);
  }
}

// nullptr: memory is short, so requests of this size are not counted.
RequestCounters::Sizes *RequestCounters::sizes_of(Kind &kind, unsigned bits) {
  std::atomic<Sizes *> &place = kind.sizes[bits];
  if (Sizes *sizes = place.load(std::memory_order_acquire))
    return sizes;
  std::unique_ptr<Sizes> made(new (std::nothrow) Sizes);
  Sizes *found = nullptr;
  if (made == nullptr ||
      !place.compare_exchange_strong(found, made.get(), std::memory_order_acq_rel))
    return found;
  return made.release();
}

KindCounts RequestCounters::of(uint16_t type) const {
  KindCounts counts;
  for (const Place &place : *places_)
    add(place.kinds[type], &counts);
  return counts;
}

void RequestCounters::add(const Kind &kind, KindCounts *counts) {
  counts->done += kind.done.load(RELAXED);
  counts->failed += kind.failed.load(RELAXED);
  counts->bytes += kind.bytes.load(RELAXED);
  counts->done_ns += kind.done_ns.load(RELAXED);
  counts->failed_ns += kind.failed_ns.load(RELAXED);
  kind.latencies.add_to(&counts->latencies);
  for (unsigned bits = 0; bits < kind.sizes.size(); bits++) {
    const Sizes *sizes = kind.sizes[bits].load(std::memory_order_acquire);
    if (sizes == nullptr)
      continue;
    SizeCounts &of_size = counts->sizes[bits];
    of_size.bytes += sizes->bytes.load(RELAXED);
    for (size_t i = 0; i < ALIGNMENTS; i++) {
      const uint64_t requests = sizes->aligned[i].load(RELAXED);
      of_size.aligned[i] += requests;
      of_size.requests += requests;
    }
  }
}

} // namespace asyncnbd::filters
