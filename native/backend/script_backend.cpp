// One export that a script has opened for one connection, as a backend: see script_bridge.hpp.
#include <utility>

#include "backend/script_bridge.hpp"
#include "wire/commands.hpp"

namespace asyncnbd::backend {

namespace {

// The memory that a request takes in the script: an object, a promise and its continuations.
constexpr uint32_t SCRIPT_BYTES = 1024;
// A payload up to this size is received in its slot: it is charged before it arrives. A client that
// announces more may never send it, and would hold a slot whose memory others have used.
constexpr uint64_t MAX_RESERVED_BYTES = 256 << 10;
// A read of at least this size is sent from where its data lies. Less is cheaper to copy than to
// send separately.
constexpr uint64_t MIN_PLACED_READ_BYTES = 32 << 10;

} // namespace

ScriptBackend::ScriptBackend(std::shared_ptr<ScriptBridge> bridge, uint32_t connection, Facts told,
                             DiskPlace place)
    : connection(connection), slot_owner(bridge->add_owner()), bridge_(std::move(bridge)),
      told_(std::move(told)), place_(std::move(place)) {
  base::invariant(place_.memory == nullptr ||
                      is_inside(place_.begin, told_.size_bytes, place_.memory->size_bytes()),
                  "a disk in memory is no larger than that");
}

ScriptBackend::~ScriptBackend() {
  bridge_->remove_owner(slot_owner);
}

bool ScriptBackend::collect(const Wanted &, Facts *facts, std::string *) {
  *facts = told_;
  facts->thread_model = ThreadModel::async;
  return true;
}

uint32_t ScriptBackend::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  const auto bytes = static_cast<uint32_t>(length_bytes);
  return SCRIPT_BYTES + (ScriptBridge::has_slot(type) ? SlotPool::slot_bytes(bytes) : 0);
}

Reservation ScriptBackend::reserve(Request &request) {
  const bool is_short = request.length_bytes <= MAX_RESERVED_BYTES;
  if (request.type != wire::NBD_CMD_WRITE || (place_.memory == nullptr && !is_short))
    return {};
  if (place_.memory != nullptr) // a client that stalls here holds no slot
    return {.data = place_.at(request.offset), .takes_pages = false, .spares_copy = true};
  uint8_t *data = bridge_->reserve(*this, request);
  return {.data = data, .takes_pages = false, .spares_copy = data != nullptr};
}

void ScriptBackend::unreserve(Request &request) {
  if (place_.memory == nullptr)
    bridge_->unreserve(request);
}

bool ScriptBackend::is_in_place(const Request &request) const {
  if (place_.memory == nullptr)
    return false;
  return request.type == wire::NBD_CMD_WRITE
             ? request.is_reserved
             : request.type == wire::NBD_CMD_READ && request.length_bytes >= MIN_PLACED_READ_BYTES;
}

void ScriptBackend::give_up_unanswered() {
  bridge_->give_up(*this);
}

} // namespace asyncnbd::backend
