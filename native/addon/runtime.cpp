// See runtime.hpp.
#include "addon/runtime.hpp"

namespace asyncnbd::addon {

namespace {

// Never destroyed: threads may outlive it, and plugins may reply at any time.
struct Process {
  nbd::Resources resources{schedule::Runtime::make_for_system()};
  TlsContexts tls_contexts;
  SharedByName<backend::TurnQueue> shared_turns;
  SharedByName<filters::RequestCounters> shared_counters;
  SharedByName<nbd::ExportLatencies> shared_latencies;
  SharedChains shared_chains;

  static Process &instance() {
    static Process &made = *new Process;
    return made;
  }
};

} // namespace

schedule::Runtime &runtime() {
  return resources().runtime;
}

nbd::Resources &resources() {
  return Process::instance().resources;
}

TlsContexts &tls_contexts() {
  return Process::instance().tls_contexts;
}

SharedByName<backend::TurnQueue> &shared_turns() {
  return Process::instance().shared_turns;
}

SharedByName<filters::RequestCounters> &shared_counters() {
  return Process::instance().shared_counters;
}

SharedByName<nbd::ExportLatencies> &shared_latencies() {
  return Process::instance().shared_latencies;
}

SharedChains &shared_chains() {
  return Process::instance().shared_chains;
}

} // namespace asyncnbd::addon
