// See fair_queue.hpp.
#include "backend/fair_queue.hpp"

#include <algorithm>
#include <utility>

#include "base/invariant.hpp"

namespace asyncnbd::backend {

void FairQueue::push(uint32_t connection, uint32_t operation, uint64_t data_bytes) {
  if (links_.size() <= operation)
    links_.resize(operation + 1);
  if (flows_.size() <= connection)
    flows_.resize(connection + 1);
  links_[operation] = {NONE, static_cast<int64_t>(data_bytes) + OPERATION_BYTES};
  Flow &flow = flows_[connection];
  const bool has_none = flow.first == NONE;
  (has_none ? flow.first : links_[flow.last].next) = operation;
  flow.last = operation;
  if (!has_none)
    return;
  flow.begin = std::max(flow.begin, now_);
  if (busy_++ == 0) {
    begin_turn(connection); // unless others arrive before the next pop
    return;
  }
  if (turn_ != NONE && turn_bytes_ == 0)
    join(std::exchange(turn_, NONE));
  join(connection);
}

uint32_t FairQueue::pop() {
  if (turn_bytes_ >= TURN_BYTES && turn_ != NONE) {
    if (busy_ > 1)
      join(std::exchange(turn_, NONE));
    else
      begin_turn(turn_);
  }
  if (turn_ == NONE && !choose())
    return NONE;
  Flow &flow = flows_[turn_];
  base::invariant(flow.first != NONE, "a connection that has its turn has an operation");
  const uint32_t operation = flow.first;
  const Link &link = links_[operation];
  flow.first = link.next;
  flow.begin += static_cast<Work>(link.cost_bytes);
  now_ += static_cast<Work>(link.cost_bytes) / busy_;
  turn_bytes_ += link.cost_bytes;
  if (flow.first == NONE) {
    turn_ = NONE;
    busy_--;
  }
  return operation;
}

void FairQueue::join(uint32_t connection) {
  const Work begin = flows_[connection].begin;
  if (begin > now_)
    early_.push({begin, connection});
  else
    make_ready(connection);
}

void FairQueue::make_ready(uint32_t connection) {
  const Flow &flow = flows_[connection];
  ready_.push({flow.begin + static_cast<Work>(links_[flow.first].cost_bytes), connection});
}

// False: nothing waits.
bool FairQueue::choose() {
  if (ready_.is_empty()) {
    if (early_.is_empty())
      return false;
    now_ = std::max(now_, early_.first().key);
  }
  while (!early_.is_empty() && early_.first().key <= now_)
    make_ready(early_.pop().connection);
  begin_turn(ready_.pop().connection);
  return true;
}

void FairQueue::begin_turn(uint32_t connection) {
  turn_ = connection;
  turn_bytes_ = 0;
}

void FairQueue::trim() {
  *this = {};
}

// ---- heaps -------------------------------------------------------------------------------------

namespace {

constexpr auto comes_later = [](const auto &one, const auto &other) { return one.key > other.key; };

} // namespace

void FairQueue::Heap::push(const Place &place) {
  places_.push_back(place);
  std::push_heap(places_.begin(), places_.end(), comes_later);
}

FairQueue::Place FairQueue::Heap::pop() {
  std::pop_heap(places_.begin(), places_.end(), comes_later);
  const Place place = places_.back();
  places_.pop_back();
  return place;
}

} // namespace asyncnbd::backend
