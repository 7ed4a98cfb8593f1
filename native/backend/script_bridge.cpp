// See script_bridge.hpp.
#include "backend/script_bridge.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <condition_variable>
#include <cstring>
#include <sys/mman.h>
#include <utility>

#include "host/log.hpp"
#include "host/reply_batch.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::backend {

namespace {

constexpr uint32_t SMALLEST_SLOT_BYTES = 4096;
// Memory comes in pieces of at least this size, so that small slots share one.
constexpr uint32_t SLAB_BYTES = 1 << 20;
// Up to here a read's data is copied next to its reply's header, where it leaves as one piece
// with others; from here on it is sent from the slot.
constexpr uint32_t COPY_BYTES = 16 << 10;

unsigned class_of(uint32_t length_bytes) {
  if (length_bytes <= SMALLEST_SLOT_BYTES)
    return 0;
  return static_cast<unsigned>(std::bit_width((length_bytes - 1) / SMALLEST_SLOT_BYTES));
}

// What the slot of a request must hold; 0: it needs none.
uint32_t slot_bytes_of(const Request &request) {
  switch (request.type) {
  case wire::NBD_CMD_READ:
  case wire::NBD_CMD_WRITE:
    return static_cast<uint32_t>(request.length_bytes);
  case wire::NBD_CMD_BLOCK_STATUS:
    return ScriptBatch::MAX_STATUS_NUMBERS * sizeof(double);
  default:
    return 0;
  }
}

// Which contexts a block status asks about, for the script.
void write_question(const Request &request, uint8_t *slot) {
  const std::vector<ContextStatus> &statuses = request.extras->statuses;
  double numbers[1 + ScriptBatch::MAX_CONTEXTS];
  size_t count = 0;
  numbers[count++] = static_cast<double>(statuses.size());
  for (const ContextStatus &status : statuses)
    numbers[count++] = status.context;
  memcpy(slot, numbers, count * sizeof numbers[0]);
}

// One context's extents from the script's numbers. False if they make no sense.
bool read_status(const uint8_t **numbers, const uint8_t *end, std::vector<Extent> *extents) {
  auto next = [numbers, end](double highest) {
    double value = -1;
    if (*numbers < end)
      memcpy(&value, *numbers, sizeof value);
    *numbers += sizeof value;
    return value >= 0 && value <= highest ? value : -1; // nor a NaN
  };
  const auto count = static_cast<int>(next(ScriptBatch::MAX_STATUS_NUMBERS)); // -1: none
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

int read_answer(Request &request, const uint8_t *slot) {
  const uint8_t *end = slot + ScriptBatch::MAX_STATUS_NUMBERS * sizeof(double);
  for (ContextStatus &status : request.extras->statuses)
    if (!read_status(&slot, end, &status.extents))
      return EIO;
  return 0;
}

} // namespace

// Of an event that someone waits for.
struct ScriptBridge::Waiter {
  std::condition_variable changed;
  bool done = false;
};

ScriptBridge::ScriptBridge(std::function<void()> wake)
    : wake_(std::move(wake)), batch_(std::make_unique<ScriptBatch>()) {
  free_slots_.fill(NONE);
}

ScriptBridge::~ScriptBridge() {
  for (const Slab &slab : slabs_)
    munmap(slab.data, static_cast<size_t>(slab.slot_bytes) * slab.slots);
}

// ---- to the script ---------------------------------------------------------------------------

void ScriptBridge::submit(ScriptBackend &backend, Request &request) {
  std::unique_lock lock(mutex_);
  uint32_t slot = NONE;
  int error = shut_ ? ESHUTDOWN : 0;
  if (const uint32_t bytes = slot_bytes_of(request); error == 0 && bytes > 0) {
    slot = take_slot(bytes);
    error = slot == NONE ? ENOMEM : 0;
  }
  if (error != 0) {
    lock.unlock();
    request.complete(error);
    return;
  }
  if (request.type == wire::NBD_CMD_WRITE) {
    uint8_t *data = slots_[slot].data;
    lock.unlock();
    memcpy(data, request.data, request.length_bytes);
    lock.lock();
  }
  if (request.type == wire::NBD_CMD_BLOCK_STATUS)
    write_question(request, slots_[slot].data);
  const uint32_t operation = new_operation(backend, &request);
  operations_[operation].slot = slot;
  enqueue(operation, &lock);
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
void ScriptBridge::enqueue(uint32_t operation, std::unique_lock<std::mutex> *lock) {
  operations_[operation].next = NONE;
  if (first_queued_ == NONE)
    first_queued_ = operation;
  else
    operations_[last_queued_].next = operation;
  last_queued_ = operation;
  queued_.fetch_add(1, std::memory_order_relaxed);
  const bool wakes = asleep_;
  asleep_ = false;
  lock->unlock();
  if (wakes)
    wake_();
}

uint32_t ScriptBridge::fetch() {
  uint32_t count = 0;
  while (first_queued_ != NONE && count < ScriptBatch::CAPACITY) {
    const uint32_t index = first_queued_;
    Operation &operation = operations_[index];
    first_queued_ = operation.next;
    queued_.fetch_sub(1, std::memory_order_relaxed);
    const Request *request = operation.request;
    if (request == nullptr && operation.event == 0) { // given up before the script saw it
      if (operation.slot != NONE)
        free_slot(operation.slot);
      free_operation(index);
      continue;
    }
    ScriptBatch::Submission &submission = batch_->submissions[count++];
    submission = {0, 0, index, operation.backend->connection, operation.slot, operation.event,
                  0, 0};
    if (request != nullptr) {
      submission.offset = static_cast<double>(request->offset);
      submission.length_bytes = static_cast<double>(request->length_bytes);
      submission.command = request->type;
      submission.flags =
          request->flags | (request->may_have_holes ? ScriptBatch::MAY_HAVE_HOLES : 0);
    }
  }
  return count;
}

// ---- from the script -------------------------------------------------------------------------

uint32_t ScriptBridge::exchange(uint32_t completions, bool wants_more, uint32_t spin_us) {
  take_completions(completions);
  if (!wants_more)
    return 0;
  spin(spin_us);
  std::lock_guard lock(mutex_);
  const uint32_t count = fetch();
  asleep_ = count == 0;
  return count;
}

// The request of an operation that has not ended, or nullptr. Locked.
Request *ScriptBridge::request_of(uint32_t operation) {
  const bool is_known = operation < operations_.size() && operations_[operation].in_use;
  return is_known ? operations_[operation].request : nullptr;
}

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

void ScriptBridge::spin(uint32_t spin_us) const {
  auto is_there = [this] { return queued_.load(std::memory_order_relaxed) > 0; };
  if (spin_us == 0 || is_there())
    return;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::microseconds(spin_us);
  do {
    for (int i = 0; i < 16; i++) {
      if (is_there())
        return;
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < deadline);
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
    if (completion.operation < slots_.size())
      free_slot(completion.operation);
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
  const uint32_t slot = kind == ScriptBatch::KEEPS_SLOT ? NONE : operation.slot;
  // A deque's elements stay where they are, whatever comes after them.
  if (operation.request != nullptr)
    done_.push_back({operation.request, slot == NONE ? nullptr : &slots_[slot], error});
  else if (slot != NONE)
    free_slot(slot);
}

// Answers the requests; their slots are free again when the data has been copied or sent.
void ScriptBridge::deliver() {
  host::begin_reply_batch();
  freed_.clear();
  for (auto &[request, slot, error] : done_) {
    if (error == 0 && request->type == wire::NBD_CMD_BLOCK_STATUS && slot != nullptr)
      error = read_answer(*request, slot->data);
    if (error != 0 && request->extras)
      request->extras->runs.reset(); // which of them have been read, nobody knows
    const bool reads = error == 0 && request->type == wire::NBD_CMD_READ && slot != nullptr;
    if (reads && request->length_bytes > COPY_BYTES) {
      request->lent = {slot->data, &ScriptBridge::give_back, slot};
    } else {
      if (reads)
        memcpy(request->data, slot->data, request->length_bytes);
      if (slot != nullptr)
        freed_.push_back(slot->index);
    }
    request->complete(error);
  }
  host::end_reply_batch();
  std::lock_guard lock(mutex_);
  for (uint32_t slot : freed_)
    free_slot(slot);
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
  for (Request *request : requests) {
    host::log_error("%s offset=%" PRIu64 " count=%" PRIu64 " was never answered: given up",
                    wire::command_name(request->type), request->offset, request->length_bytes);
    request->complete(ESHUTDOWN);
  }
  return requests.size();
}

// ---- operations and slots --------------------------------------------------------------------

uint32_t ScriptBridge::new_operation(ScriptBackend &backend, Request *request) {
  uint32_t index = free_operations_;
  if (index != NONE) {
    free_operations_ = operations_[index].next;
  } else {
    index = static_cast<uint32_t>(operations_.size());
    operations_.emplace_back();
  }
  operations_[index] = {&backend, request, nullptr, NONE, NONE, 0, true};
  return index;
}

void ScriptBridge::free_operation(uint32_t operation) {
  operations_[operation].in_use = false;
  operations_[operation].next = free_operations_;
  free_operations_ = operation;
}

uint32_t ScriptBridge::take_slot(uint32_t length_bytes) {
  const unsigned size_class = class_of(length_bytes);
  if (size_class >= CLASSES || (free_slots_[size_class] == NONE && !grow(size_class)))
    return NONE;
  const uint32_t slot = free_slots_[size_class];
  free_slots_[size_class] = slots_[slot].next_free;
  return slot;
}

void ScriptBridge::free_slot(uint32_t slot) {
  uint32_t &first = free_slots_[slots_[slot].size_class];
  slots_[slot].next_free = first;
  first = slot;
}

bool ScriptBridge::grow(unsigned size_class) {
  const uint32_t slot_bytes = SMALLEST_SLOT_BYTES << size_class;
  const uint32_t count = std::max(1u, SLAB_BYTES / slot_bytes);
  const size_t bytes = static_cast<size_t>(slot_bytes) * count;
  // Zeroed, as BufferPool's memory and for its reason.
  void *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return false;
  const auto first = static_cast<uint32_t>(slots_.size());
  const auto slab = static_cast<uint32_t>(slabs_.size());
  slabs_.push_back({static_cast<uint8_t *>(memory), first, slot_bytes, count});
  for (uint32_t i = 0; i < count; i++) {
    uint8_t *data = slabs_.back().data + static_cast<size_t>(i) * slot_bytes;
    slots_.push_back({this, data, first + i, size_class, slab, NONE});
  }
  for (uint32_t i = count; i-- > 0;) // the first one is to be taken first
    free_slot(first + i);
  return true;
}

ScriptBridge::Slab ScriptBridge::slab_of(uint32_t slot) {
  std::lock_guard lock(mutex_);
  return slot < slots_.size() ? slabs_[slots_[slot].slab] : Slab{};
}

void ScriptBridge::give_back(void *lent) {
  auto *slot = static_cast<Slot *>(lent);
  std::lock_guard lock(slot->bridge->mutex_);
  slot->bridge->free_slot(slot->index);
}

// ---- the backend -----------------------------------------------------------------------------

void ScriptBackend::give_up_unanswered() {
  bridge_->give_up(*this);
}

} // namespace asyncnbd::backend
