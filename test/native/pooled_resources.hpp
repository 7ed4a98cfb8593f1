// What layers are given, under simulated time and with threads of the system.
#pragma once

#include "backend/operation_pool.hpp"
#include "backend/resources.hpp"
#include "base/thread_pool.hpp"
#include "simulation.hpp"

struct PooledResources {
  SimulatedClock clock;
  SimulatedThreads no_threads; // the timers'
  asyncnbd::base::Timers timers{clock, no_threads};
  asyncnbd::transport::PagePipes page_pipes;
  asyncnbd::backend::OperationSlabs operations;
  const asyncnbd::backend::Resources resources{clock, timers, pool(), page_pipes, operations};

  // The process's, so never destroyed: threads that have idled end later than a test.
  static asyncnbd::base::ThreadPool &pool() {
    static auto *threads = new asyncnbd::base::ThreadPool;
    return *threads;
  }
};
