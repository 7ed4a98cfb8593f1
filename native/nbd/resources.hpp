// What all connections share, and pass on to what serves them.
#pragma once

#include "backend/operation_pool.hpp"
#include "backend/resources.hpp"
#include "base/buffers.hpp"
#include "nbd/pending_request.hpp"
#include "schedule/runtime.hpp"
#include "transport/page_pipe.hpp"

namespace asyncnbd::nbd {

// Made once, with the runtime. Outlives the threads of connections, which keep requests in
// their caches, and whatever a plugin may still reply to.
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): it keeps them apart
struct Resources {
  explicit Resources(schedule::Runtime &runtime) : runtime(runtime) {}

  schedule::Runtime &runtime;
  // What backends may use, of these.
  const backend::Resources of_backends{runtime.clock, runtime.timers, runtime.threads, page_pipes,
                                       operations};
  // Many threads change them: none is to slow down another, on its line of a cache.
  alignas(64) transport::PagePipes page_pipes;
  alignas(64) base::FreeMemory free_memory;
  alignas(64) RequestSlabs requests;
  alignas(64) backend::OperationSlabs operations;
};

} // namespace asyncnbd::nbd
