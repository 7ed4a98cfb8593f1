// What a script says about a request before completing it: a message for the client, extents,
// statuses.
#include "backend/script_bridge.hpp"

#include <utility>

namespace asyncnbd::backend {

namespace {

// One context's extents from the script's numbers. False if they make no sense.
bool read_status(const double **numbers, const double *end, std::vector<Extent> *extents) {
  auto next = [numbers, end](double highest) {
    const double value = *numbers < end ? *(*numbers)++ : -1;
    return value >= 0 && value <= highest ? value : -1; // NaN is out of range too
  };
  const auto count = static_cast<int>(next(INT32_MAX)); // -1: none
  for (int i = 0; i < count; i++) {
    const double length = next(0x1p53);
    const double lower = next(UINT32_MAX);
    const double upper = next(UINT32_MAX);
    if (length < 1 || lower < 0 || upper < 0)
      return false;
    const uint64_t flags = static_cast<uint64_t>(upper) << 32 | static_cast<uint32_t>(lower);
    extents->push_back({static_cast<uint64_t>(length), flags});
  }
  return count >= 1;
}

} // namespace

void ScriptBridge::explain(uint32_t operation, std::string text, std::optional<uint64_t> offset) {
  std::lock_guard lock(mutex_);
  Request *request = request_of(operation);
  if (request == nullptr)
    return;
  request->make_extras().error_text = std::move(text);
  if (offset && *offset - request->offset < request->length_bytes)
    request->extras->error_offset = offset;
}

std::vector<Run> ScriptBridge::sparse(uint32_t operation, const std::vector<Extent> &extents) {
  std::lock_guard lock(mutex_);
  Request *request = request_of(operation);
  if (request == nullptr || !request->may_have_holes || !request->note_extents(extents))
    return {};
  return *request->extras->runs;
}

std::vector<uint32_t> ScriptBridge::question(uint32_t operation) {
  std::lock_guard lock(mutex_);
  std::vector<uint32_t> contexts;
  if (const Request *request = request_of(operation); request != nullptr && request->extras)
    for (const ContextStatus &status : request->extras->statuses)
      contexts.push_back(status.context);
  return contexts;
}

bool ScriptBridge::answer(uint32_t operation, const double *numbers, size_t count) {
  std::lock_guard lock(mutex_);
  Request *request = request_of(operation);
  if (request == nullptr || !request->extras)
    return true; // nobody waits for it any more
  const double *end = numbers + count;
  for (ContextStatus &status : request->extras->statuses)
    if (!read_status(&numbers, end, &status.extents))
      return false;
  return true;
}

} // namespace asyncnbd::backend
