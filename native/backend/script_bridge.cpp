// See script_bridge.hpp.
#include "backend/script_bridge.hpp"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <utility>

#include "base/invariant.hpp"
#include "base/mutex.hpp"
#include "host/log.hpp"
#include "host/reply_batch.hpp"
#include "wire/commands.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::backend {

namespace {

// Up to this size a read's data is copied next to its reply's header, where it leaves as one piece
// with others; larger data is sent from the slot.
constexpr uint32_t COPY_BYTES = 16 << 10;
// A batch ends with the request that makes it this large: later requests wait for all of it.
constexpr uint64_t MAX_BATCH_BYTES = 1 << 20;

} // namespace

// For an event that a thread waits for.
struct ScriptBridge::Waiter {
  base::Condition changed;
  bool done = false;
};

ScriptBridge::ScriptBridge(std::function<void()> wake)
    : wake_(std::move(wake)), batch_(std::make_unique<ScriptBatch>()) {}

bool ScriptBridge::has_slot(uint16_t type) {
  return type == wire::NBD_CMD_READ || type == wire::NBD_CMD_WRITE;
}

// ---- to the script ---------------------------------------------------------------------------

void ScriptBridge::submit(ScriptBackend &backend, Request &request) {
  const bool is_in_place = backend.is_in_place(request);
  std::unique_lock lock(mutex_);
  Slot *slot = is_in_place ? nullptr : take_reserved(request);
  int error = shut_ ? ESHUTDOWN : 0;
  if (error == 0 && slot == nullptr && !is_in_place && has_slot(request.type)) {
    slot = take_slot(backend, request, &lock);
    if (slot == nullptr)
      error = ENOMEM;
    else if (shut_) // shut meanwhile
      error = ESHUTDOWN;
  }
  if (error != 0) {
    if (slot != nullptr)
      slots_.put(*slot);
    lock.unlock();
    request.complete(error);
    return;
  }
  const uint32_t operation = new_operation(backend, &request);
  operations_[operation].slot = slot == nullptr ? NONE : slot->index;
  if (is_in_place && request.type == wire::NBD_CMD_READ)
    operations_[operation].in_disk = backend.place_of(request);
  enqueue(operation, &lock);
}

uint8_t *ScriptBridge::reserve(const ScriptBackend &backend, Request &request) {
  const auto length_bytes = static_cast<uint32_t>(request.length_bytes);
  std::unique_lock lock(mutex_);
  if (shut_)
    return nullptr;
  const SlotPool::Taken taken = slots_.take(length_bytes, backend.slot_owner);
  lock.unlock();
  if (taken.slot == nullptr)
    return nullptr;
  // The part that the payload will cover is not zeroed: nobody sees an incomplete payload.
  if (taken.stale_bytes > length_bytes)
    memset(taken.slot->data + length_bytes, 0, taken.stale_bytes - length_bytes);
  request.reservation = taken.slot;
  return taken.slot->data;
}

void ScriptBridge::unreserve(Request &request) {
  auto *slot = static_cast<Slot *>(std::exchange(request.reservation, nullptr));
  std::lock_guard lock(mutex_);
  slots_.put_stale(*slot);
}

// The slot with the payload.
ScriptBridge::Slot *ScriptBridge::take_reserved(Request &request) {
  const bool has_one = request.is_reserved && request.type == wire::NBD_CMD_WRITE;
  return has_one ? static_cast<Slot *>(std::exchange(request.reservation, nullptr)) : nullptr;
}

// A slot with a write's data, and nobody else's. Unlocked meanwhile.
ScriptBridge::Slot *ScriptBridge::take_slot(const ScriptBackend &backend, const Request &request,
                                            Lock *lock) {
  const auto length_bytes = static_cast<uint32_t>(request.length_bytes);
  const SlotPool::Taken taken = slots_.take(length_bytes, backend.slot_owner);
  const uint32_t written_bytes = request.type == wire::NBD_CMD_WRITE ? length_bytes : 0;
  if (taken.slot == nullptr || (written_bytes == 0 && taken.stale_bytes == 0))
    return taken.slot;
  lock->unlock();
  if (written_bytes > 0)
    memcpy(taken.slot->data, request.data, written_bytes);
  if (taken.stale_bytes > written_bytes)
    memset(taken.slot->data + written_bytes, 0, taken.stale_bytes - written_bytes);
  lock->lock();
  return taken.slot;
}

void ScriptBridge::tell(ScriptBackend &backend, uint16_t event) {
  std::unique_lock lock(mutex_);
  if (shut_)
    return;
  const uint32_t operation = new_operation(backend, nullptr);
  operations_[operation].event = event;
  enqueue(operation, &lock);
}

void ScriptBridge::ask(ScriptBackend &backend, uint16_t event) {
  Waiter waiter;
  std::unique_lock lock(mutex_);
  if (shut_)
    return;
  const uint32_t operation = new_operation(backend, nullptr);
  operations_[operation].event = event;
  operations_[operation].waiter = &waiter;
  enqueue(operation, &lock);
  lock.lock();
  waiter.changed.wait(lock, [&] { return waiter.done; });
}

// Unlocks, and wakes the script if it sleeps.
void ScriptBridge::enqueue(uint32_t operation, Lock *lock) {
  const Operation &queued = operations_[operation];
  const bool moves_data = queued.request != nullptr && has_slot(queued.request->type);
  queue_.push(queued.connection, operation, moves_data ? queued.request->length_bytes : 0);
  const bool wakes = asleep_;
  asleep_ = false;
  lock->unlock();
  if (wakes)
    wake_();
}

uint32_t ScriptBridge::fetch(uint32_t most) {
  uint32_t count = 0;
  uint64_t data_bytes = 0;
  while (count < most && data_bytes < MAX_BATCH_BYTES) {
    const uint32_t index = queue_.pop();
    if (index == NONE)
      break;
    Operation &operation = operations_[index];
    const Request *request = operation.request;
    if (request == nullptr && operation.event == 0) { // given up before the script saw it
      if (operation.slot != NONE)
        slots_.put(slots_.slot(operation.slot));
      free_operation(index);
      continue;
    }
    ScriptBatch::Submission &submission = batch_->submissions[count++];
    submission = {0, 0, index, operation.connection, operation.slot, operation.event, 0, 0};
    if (request != nullptr) {
      submission.offset = static_cast<double>(request->offset);
      submission.length_bytes = static_cast<double>(request->length_bytes);
      data_bytes += has_slot(request->type) ? request->length_bytes : 0;
      submission.command = request->type;
      submission.flags =
          request->flags | (request->may_have_holes ? ScriptBatch::MAY_HAVE_HOLES : 0);
    }
  }
  return count;
}

// ---- from the script -------------------------------------------------------------------------

uint32_t ScriptBridge::exchange(uint32_t completions, uint32_t most) {
  take_completions(completions);
  if (most == 0)
    return 0;
  std::lock_guard lock(mutex_);
  const uint32_t count = fetch(std::min(most, ScriptBatch::CAPACITY));
  asleep_ = count == 0;
  return count;
}

// The request of an operation that has not ended, or nullptr. Locked.
Request *ScriptBridge::request_of(uint32_t operation) {
  const bool is_known = operation < operations_.size() && operations_[operation].in_use;
  return is_known ? operations_[operation].request : nullptr;
}

void ScriptBridge::take_completions(uint32_t count) {
  if (count == 0)
    return;
  done_.clear();
  {
    std::lock_guard lock(mutex_);
    for (uint32_t i = 0; i < std::min(count, ScriptBatch::CAPACITY); i++)
      take_completion(batch_->completions[i]);
  }
  deliver();
}

void ScriptBridge::take_completion(const ScriptBatch::Completion &completion) {
  const uint32_t kind = completion.outcome >> 16;
  const int error = static_cast<int>(completion.outcome & 0xffff);
  if (kind == ScriptBatch::FREES_SLOT) {
    if (slots_.has(completion.operation))
      slots_.put(slots_.slot(completion.operation));
    return;
  }
  if (completion.operation >= operations_.size() || !operations_[completion.operation].in_use)
    return;
  const Operation operation = operations_[completion.operation];
  free_operation(completion.operation);
  if (operation.waiter != nullptr) {
    operation.waiter->done = true;
    operation.waiter->changed.notify_one();
  }
  const bool has_slot = operation.slot != NONE && kind != ScriptBatch::KEEPS_SLOT;
  Slot *slot = has_slot ? &slots_.slot(operation.slot) : nullptr;
  if (operation.request != nullptr)
    done_.push_back({operation.request, slot, operation.in_disk, error});
  else if (slot != nullptr)
    slots_.put(*slot);
}

// Answers the requests; their slots are free again when the data has been copied or sent.
void ScriptBridge::deliver() {
  host::begin_reply_batch();
  freed_.clear();
  for (auto &[request, slot, in_disk, error] : done_) {
    if (error != 0 && request->extras)
      request->extras->runs.reset(); // which of them have been read is unknown
    const bool reads = error == 0 && request->type == wire::NBD_CMD_READ;
    base::invariant(!reads || slot != nullptr || in_disk != nullptr,
                    "a read that has succeeded has data");
    if (reads && in_disk != nullptr) {
      request->answer = {Answer::Kind::disk, in_disk};
    } else if (reads && request->length_bytes > COPY_BYTES) {
      request->answer = {Answer::Kind::lent, slot->data, &ScriptBridge::give_back, slot};
    } else {
      if (reads)
        memcpy(request->data, slot->data, request->length_bytes);
      if (slot != nullptr)
        freed_.push_back(slot);
    }
    request->complete(error);
  }
  host::end_reply_batch();
  std::lock_guard lock(mutex_);
  for (Slot *slot : freed_)
    slots_.put(*slot);
}

void ScriptBridge::shut() {
  std::vector<Request *> requests;
  {
    std::lock_guard lock(mutex_);
    shut_ = true;
    for (Operation &operation : operations_) {
      if (!operation.in_use)
        continue;
      if (operation.request != nullptr)
        requests.push_back(std::exchange(operation.request, nullptr));
      if (operation.waiter != nullptr) {
        operation.waiter->done = true;
        operation.waiter->changed.notify_one();
        operation.waiter = nullptr;
      }
    }
  }
  for (Request *request : requests)
    request->complete(ESHUTDOWN);
}

size_t ScriptBridge::give_up(ScriptBackend &backend) {
  std::vector<Request *> requests;
  {
    std::lock_guard lock(mutex_);
    for (Operation &operation : operations_)
      if (operation.in_use && operation.backend == &backend && operation.request != nullptr)
        requests.push_back(std::exchange(operation.request, nullptr));
  }
  if (!requests.empty()) { // so that the log names one of them
    const Request &first = *requests.front();
    const std::string more =
        requests.size() > 1 ? " (nor " + std::to_string(requests.size() - 1) + " more requests)"
                            : "";
    host::log_error("%s offset=%" PRIu64 " count=%" PRIu64
                    ": the plugin did not answer%s: giving up",
                    wire::command_name(first.type), first.offset, first.length_bytes, more.c_str());
  }
  for (Request *request : requests)
    request->complete(ESHUTDOWN);
  return requests.size();
}

// ---- operations and slots --------------------------------------------------------------------

uint32_t ScriptBridge::new_operation(ScriptBackend &backend, Request *request) {
  uint32_t index = free_operations_;
  if (index != NONE) {
    free_operations_ = operations_[index].next_free;
  } else {
    index = static_cast<uint32_t>(operations_.size());
    operations_.emplace_back();
  }
  operations_[index] = {&backend, request, nullptr,           NONE, nullptr, NONE,
                        0,        true,    backend.connection};
  operations_in_use_++;
  return index;
}

void ScriptBridge::free_operation(uint32_t operation) {
  base::invariant(operations_[operation].in_use, "an operation that ends was in use");
  operations_[operation].in_use = false;
  operations_[operation].next_free = free_operations_;
  free_operations_ = operation;
  operations_in_use_--;
}

SlotPool::Slab ScriptBridge::slab_of(uint32_t slot) {
  std::lock_guard lock(mutex_);
  return slots_.has(slot) ? slots_.slab_of(slots_.slot(slot)) : SlotPool::Slab{};
}

void ScriptBridge::give_back(void *lent) {
  auto *slot = static_cast<Slot *>(lent);
  auto *bridge = static_cast<ScriptBridge *>(slot->holder);
  std::lock_guard lock(bridge->mutex_);
  bridge->slots_.put(*slot);
}

uint32_t ScriptBridge::add_owner() {
  std::lock_guard lock(mutex_);
  return slots_.add_owner();
}

void ScriptBridge::remove_owner(uint32_t owner) {
  std::lock_guard lock(mutex_);
  slots_.remove_owner(owner);
}

bool ScriptBridge::trim() {
  std::lock_guard lock(mutex_);
  const bool has_more = slots_.trim();
  if (operations_in_use_ > 0)
    return true;
  operations_.clear();
  operations_.shrink_to_fit();
  queue_.trim();
  free_operations_ = NONE;
  return has_more;
}

} // namespace asyncnbd::backend
