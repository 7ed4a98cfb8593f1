// The way to a plugin whose callbacks run on one event loop elsewhere, such as JavaScript's:
// requests go over in batches, and their answers come back in batches, through shared memory.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.hpp"
#include "backend/disk_memory.hpp"
#include "backend/fair_queue.hpp"
#include "backend/slot_pool.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::backend {

class ScriptBackend;

// Events of a connection, which take the place of a command.
constexpr uint16_t SCRIPT_CLIENT_GONE = 0x8000; // nobody waits for its requests any more
constexpr uint16_t SCRIPT_CLOSE = 0x8001;       // its last request has ended: close the export

// The memory that the two sides exchange. The script's side writes completions and reads
// submissions, both only between two calls of exchange.
struct ScriptBatch {
  static constexpr uint32_t CAPACITY = 1024;

  struct Submission {
    double offset;
    double length_bytes;
    uint32_t operation;
    uint32_t connection;
    uint32_t slot;    // where the data is, or NO_SLOT
    uint32_t command; // NBD_CMD_*, or one of the SCRIPT_*
    uint32_t flags;   // NBD_CMD_FLAG_*, and MAY_HAVE_HOLES
    uint32_t unused;
  };
  static constexpr uint32_t MAY_HAVE_HOLES = 1 << 16; // see `sparse`
  struct Completion {
    uint32_t operation; // or a slot, to free it
    uint32_t outcome;   // an errno in the lower half, one of the kinds below in the upper
  };
  static constexpr uint32_t NO_SLOT = UINT32_MAX;
  static constexpr uint32_t KEEPS_SLOT = 1; // the script goes on using the slot
  static constexpr uint32_t FREES_SLOT = 2; // the script has finished with the slot

  std::array<Submission, CAPACITY> submissions;
  std::array<Completion, CAPACITY> completions;
};

class ScriptBridge {
public:
  // `wake` makes the script's thread call exchange soon; called on any thread, and only when the
  // last exchange has found nothing to hand over.
  explicit ScriptBridge(std::function<void()> wake);
  // Whether the data of such a request is in a slot.
  static bool has_slot(uint16_t type);
  ScriptBridge(const ScriptBridge &) = delete;
  ScriptBridge &operator=(const ScriptBridge &) = delete;

  // ---- the script's thread

  ScriptBatch &batch() { return *batch_; }

  // Takes `completions` out of the batch, puts at most `most` submissions into it, and returns
  // their number. If there are none although some are wanted, the script is woken for the next one.
  uint32_t exchange(uint32_t completions, uint32_t most);

  // Before the completion of an operation with an error: a message for the client.
  void explain(uint32_t operation, std::string text, std::optional<uint64_t> offset);

  // Before the success of a read that may have holes: the extents of its range. Returns its parts,
  // of which only data must be read; empty if everything is data.
  std::vector<Run> sparse(uint32_t operation, const std::vector<Extent> &extents);

  // The contexts that an NBD_CMD_BLOCK_STATUS asks about.
  std::vector<uint32_t> question(uint32_t operation);
  // Before its success: for each context a count, followed by that many extents of three numbers:
  // the length, and the lower and the upper half of the flags. False: invalid.
  bool answer(uint32_t operation, const double *numbers, size_t count);
  static constexpr uint32_t EXTENT_NUMBERS = 3;

  // The slab that contains `slot`. Lives as long as the bridge.
  SlotPool::Slab slab_of(uint32_t slot);

  // Called periodically: gives back memory that has not been needed since the last call. False:
  // nothing is left to give back.
  bool trim();

  // The script has ended: answers all present and later requests with ESHUTDOWN.
  void shut();

  // ---- any thread

  void submit(ScriptBackend &backend, Request &request);
  // For a write: the slot in which to receive its payload; nullptr: none.
  uint8_t *reserve(const ScriptBackend &backend, Request &request);
  void unreserve(Request &request);
  void tell(ScriptBackend &backend, uint16_t event);
  // Waits until the script has dealt with it.
  void ask(ScriptBackend &backend, uint16_t event);
  // Answers with ESHUTDOWN the requests that the script has not answered. Returns their number.
  size_t give_up(ScriptBackend &backend);

private:
  static constexpr uint32_t NONE = SlotPool::NONE;
  using Slot = SlotPool::Slot;
  using Mutex = base::Mutex<base::LockRank::script_bridge>;
  using Lock = std::unique_lock<Mutex>;

  friend class ScriptBackend;
  struct Waiter;
  struct Operation {
    ScriptBackend *backend;
    Request *request; // nullptr: an event, or given up
    Waiter *waiter;   // for an event, or nullptr
    uint32_t slot;
    const uint8_t *in_disk; // as Done's
    uint32_t next_free;
    uint16_t event;
    bool in_use;
    uint32_t connection; // the backend may be gone before its last event is delivered
  };
  struct Done {
    Request *request;
    Slot *slot;             // nullptr: none usable
    const uint8_t *in_disk; // of a read in the disk's memory: its data
    int error;
  };

  uint32_t new_operation(ScriptBackend &backend, Request *request);
  void free_operation(uint32_t operation);
  Request *request_of(uint32_t operation);
  uint32_t add_owner();
  void remove_owner(uint32_t owner);
  static Slot *take_reserved(Request &request);
  Slot *take_slot(const ScriptBackend &backend, const Request &request, Lock *lock);
  void enqueue(uint32_t operation, Lock *lock);
  void take_completions(uint32_t count);
  void take_completion(const ScriptBatch::Completion &completion);
  void deliver();
  uint32_t fetch(uint32_t most);
  static void give_back(void *slot);

  const std::function<void()> wake_;
  const std::unique_ptr<ScriptBatch> batch_;
  std::vector<Done> done_;    // used by the script's thread
  std::vector<Slot *> freed_; // the same

  Mutex mutex_; // guards what follows
  bool asleep_ = true;
  bool shut_ = false;
  SlotPool slots_{this};
  std::deque<Operation> operations_;
  size_t operations_in_use_ = 0;
  uint32_t free_operations_ = NONE;
  FairQueue queue_; // of operations
};

// One export that a script has opened for one connection.
class ScriptBackend final : public Backend {
public:
  // `told`: what the script has said about the export. `place`: where it lies, if that is in
  // memory: there the script finds the data of what is in_place.
  ScriptBackend(std::shared_ptr<ScriptBridge> bridge, uint32_t connection, Facts told,
                DiskPlace place = {});
  ~ScriptBackend() override;

  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override;
  Reservation reserve(Request &request) override;
  void unreserve(Request &request) override;
  void submit(Request &request, Caller) override { bridge_->submit(*this, request); }
  void on_client_gone() override { bridge_->tell(*this, SCRIPT_CLIENT_GONE); }
  void give_up_unanswered() override;
  void close() override { bridge_->ask(*this, SCRIPT_CLOSE); }
  void close_unused() override { bridge_->tell(*this, SCRIPT_CLOSE); }

  // A write that has been received there, or a read that is to be sent from there.
  bool is_in_place(const Request &request) const;
  const uint8_t *place_of(const Request &request) const { return place_.at(request.offset); }

  const uint32_t connection; // the script's number for it
  const uint32_t slot_owner; // the bridge's

private:
  bool collect(const Wanted &wanted, Facts *facts, std::string *error) override;

  const std::shared_ptr<ScriptBridge> bridge_;
  const Facts told_;
  const DiskPlace place_;
};

} // namespace asyncnbd::backend
