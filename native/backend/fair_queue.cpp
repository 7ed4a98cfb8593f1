// See fair_queue.hpp.
#include "backend/fair_queue.hpp"

#include <algorithm>

namespace asyncnbd::backend {

void FairQueue::push(uint32_t connection, uint32_t operation, uint64_t data_bytes) {
  if (links_.size() <= operation)
    links_.resize(operation + 1);
  if (flows_.size() <= connection)
    flows_.resize(connection + 1);
  links_[operation] = {NONE, static_cast<int64_t>(data_bytes) + OPERATION_BYTES};
  Flow &flow = flows_[connection];
  (flow.first == NONE ? flow.first : links_[flow.last].next) = operation;
  flow.last = operation;
  if (flow.is_in_line)
    return;
  flow.credit_bytes = TURN_BYTES;
  append(&fresh_, connection);
}

uint32_t FairQueue::pop() {
  for (;;) {
    Line *line = fresh_.first != NONE ? &fresh_ : &others_;
    const uint32_t connection = line->first;
    if (connection == NONE)
      return NONE;
    Flow &flow = flows_[connection];
    const uint32_t operation = flow.first;
    if (operation != NONE && flow.credit_bytes >= links_[operation].cost_bytes) {
      flow.first = links_[operation].next;
      flow.credit_bytes -= links_[operation].cost_bytes;
      return operation;
    }
    take_first(line);
    // One that has been first stands in line once more even if it has nothing left: else it would
    // be first again with its next request, and those that wait never be.
    if (operation == NONE && line == &others_)
      continue;
    flow.credit_bytes = (operation == NONE ? 0 : flow.credit_bytes) + TURN_BYTES;
    append(&others_, connection);
  }
}

void FairQueue::append(Line *line, uint32_t connection) {
  (line->first == NONE ? line->first : flows_[line->last].next) = connection;
  line->last = connection;
  flows_[connection].next = NONE;
  flows_[connection].is_in_line = true;
}

void FairQueue::take_first(Line *line) {
  Flow &flow = flows_[line->first];
  line->first = flow.next;
  flow.is_in_line = false;
}

void FairQueue::trim() {
  links_ = {};
  const bool is_idle =
      std::none_of(flows_.begin(), flows_.end(), [](const Flow &flow) { return flow.is_in_line; });
  if (is_idle)
    flows_ = {};
}

} // namespace asyncnbd::backend
