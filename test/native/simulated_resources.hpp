// What layers are given, under simulated time and threads.
#pragma once

#include "backend/operation_pool.hpp"
#include "backend/resources.hpp"
#include "simulation.hpp"

struct SimulatedResources {
  SimulatedClock clock;
  SimulatedThreads threads;
  asyncnbd::base::Timers timers{clock, threads};
  asyncnbd::transport::PagePipes page_pipes;
  asyncnbd::backend::OperationSlabs operations;
  const asyncnbd::backend::Resources resources{clock, timers, threads, page_pipes, operations};
};
