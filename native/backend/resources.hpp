// The shared resources of the process that backends and layers use.
#pragma once

#include "base/clock.hpp"
#include "base/slabs.hpp"
#include "base/threads.hpp"
#include "base/timers.hpp"
#include "transport/page_pipe.hpp"

namespace asyncnbd::backend {

class Operation;

using OperationSlabs = base::SlabsOf<Operation>;

// Owned by the maker of the backends, and outlives them all.
struct Resources {
  const base::Clock &clock;
  base::Timers &timers;
  base::Threads &threads;
  transport::PagePipes &page_pipes;
  OperationSlabs &operations;
};

} // namespace asyncnbd::backend
