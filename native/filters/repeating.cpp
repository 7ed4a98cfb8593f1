// See repeating.hpp.
#include "filters/repeating.hpp"

#include <algorithm>
#include <cinttypes>

#include "base/error_numbers.hpp"
#include "host/abi.hpp"
#include "host/context.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::filters {

using std::chrono::milliseconds;

milliseconds Repetition::delay_before(uint32_t retry) const {
  constexpr uint32_t MOST_DOUBLINGS = 20;
  constexpr milliseconds LONGEST{MAX_REPETITION_MS};
  const int64_t factor = is_exponential ? int64_t{1} << std::min(retry, MOST_DOUBLINGS) : 1;
  return std::min(delay * factor, LONGEST);
}

void forget_answer(backend::Request &request) {
  request.answer.give_back_data();
  request.answer = {};
  request.data_until = 0;
  request.pages.reset(); // only a read has any: a write's data is in memory, as it is not reserved
  if (!request.extras)
    return;
  request.extras->runs.reset();
  request.extras->error_text.clear();
  request.extras->error_offset.reset();
  for (backend::ContextStatus &status : request.extras->statuses)
    status.extents.clear();
}

void log_failure(host::CallContext &context, const backend::Request &request, int error,
                 uint32_t retries, const Repetition &repetition) {
  host::ContextScope scope(&context);
  const char *command = wire::command_name(request.type);
  const std::string text = base::error_text(error);
  if (retries < repetition.retries)
    host::log_debug("%s offset=%" PRIu64 " count=%" PRIu64 ": %s; retry %" PRIu32 " of %" PRIu32
                    " follows in %lld ms",
                    command, request.offset, request.length_bytes, text.c_str(), retries + 1,
                    repetition.retries,
                    static_cast<long long>(repetition.delay_before(retries).count()));
  else
    host::log_debug(
        "%s offset=%" PRIu64 " count=%" PRIu64 ": %s; that was the last of %" PRIu64 " tries",
        command, request.offset, request.length_bytes, text.c_str(), uint64_t{retries} + 1);
}

namespace {

// False: it ended early. Runs in the client's context.
bool sleep_for(milliseconds time) {
  constexpr unsigned MS_A_SECOND = 1000;
  constexpr unsigned NS_A_MS = 1'000'000;
  const auto ms = static_cast<uint64_t>(time.count());
  return nbdkit_nanosleep(static_cast<unsigned>(ms / MS_A_SECOND),
                          static_cast<unsigned>(ms % MS_A_SECOND) * NS_A_MS) == 0;
}

} // namespace

std::unique_ptr<backend::Backend> open_repeatedly(const OpenOnce &open,
                                                  const Repetition &repetition,
                                                  host::CallContext &context, std::string *error) {
  for (uint32_t retry = 0;; retry++) {
    std::unique_ptr<backend::Backend> opened = open(retry, error);
    if (opened != nullptr || retry == repetition.retries)
      return opened;
    host::ContextScope scope(&context);
    if (!error->empty())
      host::log_error("%s", error->c_str());
    error->clear();
    const milliseconds delay = repetition.delay_before(retry);
    host::log_debug("the export cannot be opened; retry %" PRIu32 " of %" PRIu32
                    " follows in %lld ms",
                    retry + 1, repetition.retries, static_cast<long long>(delay.count()));
    if (!sleep_for(delay))
      return nullptr;
  }
}

} // namespace asyncnbd::filters
