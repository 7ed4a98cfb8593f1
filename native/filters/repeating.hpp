// The common part of filters that retry.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "backend/filter.hpp"
#include "backend/request.hpp"

namespace asyncnbd::filters {

constexpr uint64_t MAX_REPETITION_MS = UINT32_MAX; // between two tries

// The number of retries, and the pauses between them.
struct Repetition {
  uint32_t retries = 0; // after the first try
  std::chrono::milliseconds delay{0};
  bool is_exponential = false; // each pause is twice the previous one

  std::chrono::milliseconds delay_before(uint32_t retry) const; // counted from 0
};

// Removes what a failed try has left in a request.
void forget_answer(backend::Request &request);

// Logs for debugging that a request of this client has failed, and what follows. `retries`: the
// retries so far.
void log_failure(host::CallContext &context, const backend::Request &request, int error,
                 uint32_t retries, const Repetition &repetition);

// Opens the export below a filter, with retries; the pauses end when the client leaves or the
// server stops. `open` gets the number of the retry, 0 at first.
using OpenOnce =
    std::function<std::unique_ptr<backend::Backend>(uint32_t retry, std::string *error)>;
std::unique_ptr<backend::Backend> open_repeatedly(const OpenOnce &open,
                                                  const Repetition &repetition,
                                                  host::CallContext &context, std::string *error);

} // namespace asyncnbd::filters
