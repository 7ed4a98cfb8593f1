// See transmission.hpp.
#include "nbd/transmission.hpp"

#include <algorithm>

namespace asyncnbd::nbd {

namespace {

// A close that need not wait for anything gets so long, whatever requests have left of the grace.
constexpr std::chrono::milliseconds LEAST_TO_CLOSE{250};

ExportFacts facts_of(const backend::Facts &facts, const TransmissionSettings &settings) {
  return {facts.size_bytes,           settings.flags,
          settings.contexts,          settings.block_bytes,
          settings.max_payload_bytes, facts.block_sizes_bind};
}

unsigned threads_of(const backend::Facts &facts, const TransmissionSettings &settings) {
  return facts.thread_model >= backend::ThreadModel::parallel ? settings.limits.threads : 1;
}

} // namespace

Transmission::Transmission(Resources &resources, Ends given, const TransmissionSettings &settings)
    : resources(resources), runtime(resources.runtime), settings(settings), ends(std::move(given)),
      transport(*ends.transport), backend(*ends.backend),
      facts(facts_of(backend.facts(), settings)),
      max_threads(threads_of(backend.facts(), settings)),
      answers_later(backend.facts().answers_later()),
      may_send_holes(settings.style != wire::ReplyStyle::simple &&
                     backend.facts().has_sparse_reads),
      system_receives(transport.can_move_pages()),
      may_pipe(settings.has_shortcuts && system_receives), grace_ms(settings.limits.grace.count()),
      stop_by_ms(INT64_MAX) {}

std::chrono::milliseconds Transmission::time_to_close() const {
  const std::chrono::milliseconds stop_by(stop_by_ms.load(std::memory_order_relaxed));
  const std::chrono::milliseconds now(base::in_ms(runtime.clock.now()));
  return std::clamp(stop_by - now, std::min(LEAST_TO_CLOSE, grace()), grace());
}

} // namespace asyncnbd::nbd
