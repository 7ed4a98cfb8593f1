// See emulate.hpp. The rules are those of nbdkit-plugin(3).
#include "backend/emulate.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>
#include <utility>

#include "backend/stand_in.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::backend {

namespace {

// Zeroes are written in pieces of this size if they are copied.
constexpr uint32_t COPIED_ZERO_BYTES = 1 << 20;

// A range that takes more calls would keep a thread, or a plugin's lock, for too long; the
// specification allows us to refuse it.
constexpr uint64_t MAX_PARTS = 65536;

// How many parts of a long range one block status covers: 512 GiB for a plugin in C.
constexpr unsigned MAX_STATUS_PARTS = 256;

bool has_flag(const Request &request, uint16_t flag) {
  return (request.flags & flag) != 0;
}

} // namespace

// ---- a request of several steps ----------------------------------------------------------------

EmulatedRequest::EmulatedRequest(Emulation &layer, EmulatedRequests &pool)
    : SteppedRequest(layer.below()), layer_(layer), pool_(pool) {}

void EmulatedRequest::begin(Request &request, Caller caller) {
  SteppedRequest::begin(request);
  step_ = first_step();
  needs_flush_ = false;
  done_bytes_ = 0;
  context_ = 0;
  parts_ = 0;
  int error = 0;
  const Next next = make_next(&error);
  run(next, error, caller);
}

EmulatedRequest::Step EmulatedRequest::first_step() const {
  const Facts &can = layer_.facts();
  const bool zeroes = request().type == wire::NBD_CMD_WRITE_ZEROES && can.zero != Support::native;
  const bool caches = request().type == wire::NBD_CMD_CACHE && can.cache == Support::emulate;
  return zeroes || caches ? Step::pieces : Step::command;
}

EmulatedRequest::Next EmulatedRequest::make_next(int *error) {
  if (request().type == wire::NBD_CMD_BLOCK_STATUS)
    return make_status();
  const uint64_t offset = request().offset + done_bytes_;
  const uint64_t left_bytes = request().length_bytes - done_bytes_;
  if (step_ == Step::pieces)
    return make_piece(offset, left_bytes, error);
  if (left_bytes > 0 && (left_bytes - 1) / MAX_PARTS >= layer_.part_bytes())
    return refuse(EINVAL, "the range is too long", error);
  return make_part(offset, left_bytes);
}

// A part with the request's own command: all of it, if the backend can take that much.
EmulatedRequest::Next EmulatedRequest::make_part(uint64_t offset, uint64_t left_bytes) {
  const uint16_t type = request().type;
  const auto flags =
      static_cast<uint16_t>((request().flags & ~wire::NBD_CMD_FLAG_FUA) | fua_of(type));
  // A write's data are in one piece, whatever limit there is for ranges.
  const bool is_all =
      type == wire::NBD_CMD_WRITE || left_bytes <= layer_.limits_.longest_range_bytes;
  make_child(type, flags, offset, is_all ? left_bytes : layer_.part_bytes(), nullptr);
  if (type == wire::NBD_CMD_WRITE)
    child().take_payload(request());
  return Next::child;
}

// A piece of the emulation: another command in place of the request's.
EmulatedRequest::Next EmulatedRequest::make_piece(uint64_t offset, uint64_t left_bytes,
                                                  int *error) {
  if (has_flag(request(), wire::NBD_CMD_FLAG_FAST_ZERO))
    return refuse(ENOTSUP, "fast zeroing is not supported", error);
  if (left_bytes > MAX_STAND_IN_BYTES)
    return refuse(EINVAL, "the range is too long for a plugin without zero or cache", error);
  if (request().type == wire::NBD_CMD_WRITE_ZEROES) {
    uint8_t *source = zeroes(); // the data of a write is only read
    if (source == nullptr)
      return refuse(ENOMEM, "", error);
    make_child(wire::NBD_CMD_WRITE, fua_of(wire::NBD_CMD_WRITE), offset,
               std::min<uint64_t>(left_bytes, layer_.zero_piece_bytes_), source);
    return Next::child;
  }
  const uint64_t piece_bytes = std::min<uint64_t>(left_bytes, layer_.piece_bytes_);
  if (!scratch_)
    scratch_.reset(new (std::nothrow) uint8_t[piece_bytes]);
  if (!scratch_)
    return refuse(ENOMEM, "", error);
  make_child(wire::NBD_CMD_READ, 0, offset, piece_bytes, scratch_.get());
  return Next::child;
}

// One context at a time.
EmulatedRequest::Next EmulatedRequest::make_status() {
  std::vector<ContextStatus> &statuses = request().extras->statuses;
  for (; context_ < statuses.size(); context_++) {
    ContextStatus &status = statuses[context_];
    if (status.context == ContextStatus::ALLOCATION && !layer_.facts().can_extents) {
      status.extents = {{request().length_bytes, 0}}; // then everything counts as data
      continue;
    }
    const uint64_t left_bytes = request().length_bytes - done_bytes_;
    const bool is_all = left_bytes <= layer_.limits_.longest_range_bytes;
    make_child(wire::NBD_CMD_BLOCK_STATUS, request().flags, request().offset + done_bytes_,
               is_all ? left_bytes : layer_.part_bytes(), nullptr);
    child().make_extras().statuses.push_back({status.id, status.context, {}});
    return Next::child;
  }
  return Next::end;
}

// Goes on to the next part if the backend has answered for the whole part.
void EmulatedRequest::take_status() {
  ContextStatus &status = request().extras->statuses[context_];
  uint64_t added_bytes = 0;
  for (const Extent &extent : child().extras->statuses.front().extents) {
    append_extent(status.extents, extent.length_bytes, extent.flags);
    added_bytes += extent.length_bytes;
  }
  done_bytes_ += added_bytes;
  const bool only_one = has_flag(request(), wire::NBD_CMD_FLAG_REQ_ONE);
  const bool may_ask_on = added_bytes >= child().length_bytes &&
                          done_bytes_ < request().length_bytes &&
                          (!only_one || status.extents.size() == 1);
  if (may_ask_on && ++parts_ < MAX_STATUS_PARTS)
    return;
  done_bytes_ = 0;
  parts_ = 0;
  context_++;
}

// The FUA flag for a child with this command. If the backend cannot make it durable, notes that a
// flush is needed.
uint16_t EmulatedRequest::fua_of(uint16_t type) {
  if (!has_flag(request(), wire::NBD_CMD_FLAG_FUA))
    return 0;
  if (layer_.is_made_durable_below(type))
    return wire::NBD_CMD_FLAG_FUA;
  needs_flush_ = true;
  return 0;
}

EmulatedRequest::Next EmulatedRequest::refuse(int error, const char *words, int *result) {
  if (*words != '\0')
    request().make_extras().error_text = words;
  *result = error;
  return Next::end;
}

EmulatedRequest::Next EmulatedRequest::advance(int *error) {
  const uint16_t type = request().type;
  const bool was_zero = type == wire::NBD_CMD_WRITE_ZEROES && step_ == Step::command;
  if (was_zero && *error == ENOTSUP && !has_flag(request(), wire::NBD_CMD_FLAG_FAST_ZERO)) {
    step_ = Step::pieces;
    *error = 0;
  } else if (*error != 0 || step_ == Step::flush) {
    return Next::end;
  } else if (type == wire::NBD_CMD_BLOCK_STATUS) {
    take_status();
  } else {
    done_bytes_ += child().length_bytes;
  }
  if (layer_.is_given_up_.load(std::memory_order_relaxed)) {
    *error = ESHUTDOWN;
    return Next::end;
  }
  if (type == wire::NBD_CMD_BLOCK_STATUS || done_bytes_ < request().length_bytes) {
    if (!request().completers.maker().client_has_gone())
      return make_next(error);
    *error = ESHUTDOWN; // nobody waits for the rest
    return Next::end;
  }
  if (!needs_flush_)
    return Next::end;
  step_ = Step::flush;
  make_child(wire::NBD_CMD_FLUSH, 0, 0, 0, nullptr);
  return Next::child;
}

// Looks at once whether the request is over. The next call must not be made from inside a
// completion.
void EmulatedRequest::on_answered_later() {
  int error = child_error();
  const Next next = advance(&error);
  if (next != Next::child) {
    end(error);
    return;
  }
  const auto go_on = [this](Caller caller) {
    const bool is_over = layer_.is_given_up_.load(std::memory_order_relaxed);
    run(is_over ? Next::end : Next::child, is_over ? ESHUTDOWN : 0, caller);
  };
  go_on_elsewhere(layer_.threads_, go_on);
}

void EmulatedRequest::before_end(int error) {
  const bool is_known = error != 0 && done_bytes_ > 0 && done_bytes_ < request().length_bytes;
  if (is_known && (!request().extras || !request().extras->error_offset))
    request().make_extras().error_offset = request().offset + done_bytes_;
}

void EmulatedRequest::recycle() {
  scratch_.reset();
  pool_.put(*this);
}

// ---- the layer ---------------------------------------------------------------------------------

Emulation::Emulation(std::unique_ptr<Backend> below, base::Threads &threads)
    : Layer(std::move(below)), threads_(threads) {}

bool Emulation::collect(const Wanted &wanted, Facts *facts, std::string *error) {
  if (!Layer::collect(wanted, facts, error))
    return false;
  limits_ = below().facts().call_limits;
  // The most that a client could write at once, in whole blocks.
  const bool has_most =
      facts->block_sizes_bind && facts->block_sizes && facts->block_sizes->maximum > 0;
  piece_bytes_ = std::min(wire::MAX_PAYLOAD_BYTES,
                          has_most ? std::bit_floor(facts->block_sizes->maximum) : UINT32_MAX);
  const bool has_copy = below().bytes_besides(wire::NBD_CMD_WRITE, wire::MAX_PAYLOAD_BYTES) >=
                        wire::MAX_PAYLOAD_BYTES;
  zero_piece_bytes_ = has_copy ? std::min(piece_bytes_, COPIED_ZERO_BYTES) : piece_bytes_;
  return true;
}

uint64_t Emulation::part_bytes() const {
  return std::bit_floor(limits_.longest_range_bytes); // so the parts stay aligned
}

bool Emulation::is_made_durable_below(uint16_t type) const {
  const bool is_seen_to = limits_.emulates_fua || facts().fua == Support::native;
  return is_seen_to && (limits_.without_fua & (1u << type)) == 0;
}

bool Emulation::needs_flush(const Request &request) const {
  return has_flag(request, wire::NBD_CMD_FLAG_FUA) && !is_made_durable_below(request.type);
}

bool Emulation::passes_on(const Request &request) const {
  const bool is_short = request.length_bytes <= limits_.longest_range_bytes;
  switch (request.type) {
  case wire::NBD_CMD_WRITE:
    return !needs_flush(request);
  case wire::NBD_CMD_TRIM:
    return is_short && !needs_flush(request);
  case wire::NBD_CMD_WRITE_ZEROES: // may turn out to be impossible
    return is_short && facts().zero == Support::native &&
           has_flag(request, wire::NBD_CMD_FLAG_FAST_ZERO) && !needs_flush(request);
  case wire::NBD_CMD_CACHE:
    return is_short && facts().cache != Support::emulate;
  case wire::NBD_CMD_BLOCK_STATUS:
    return is_short && passes_on_status(request);
  default:
    return true;
  }
}

bool Emulation::passes_on_status(const Request &request) const {
  const std::vector<ContextStatus> &statuses = request.extras->statuses;
  if (limits_.takes_one_context && statuses.size() > 1)
    return false;
  return facts().can_extents ||
         std::none_of(statuses.begin(), statuses.end(), [](const ContextStatus &status) {
           return status.context == ContextStatus::ALLOCATION;
         });
}

void Emulation::submit(Request &request, Caller caller) {
  if (passes_on(request)) {
    below().submit(request, caller);
  } else if (EmulatedRequest *emulated = requests_.get()) {
    emulated->begin(request, caller);
  } else {
    refuse(request, ENOMEM);
  }
}

// The backend below must see the request as it will be submitted.
Reservation Emulation::reserve(Request &request) {
  const uint16_t flags = request.flags;
  if (request.type == wire::NBD_CMD_WRITE && needs_flush(request))
    request.flags &= static_cast<uint16_t>(~wire::NBD_CMD_FLAG_FUA);
  const Reservation reservation = below().reserve(request);
  request.flags = flags;
  return reservation;
}

uint32_t Emulation::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  const uint32_t own_bytes = sizeof(EmulatedRequest);
  const auto part_bytes = std::min<uint64_t>(length_bytes, limits_.longest_range_bytes);
  const uint32_t command_bytes = below().bytes_besides(type, part_bytes);
  const auto zero_bytes = std::min<uint64_t>(length_bytes, zero_piece_bytes_);
  const auto cache_bytes = static_cast<uint32_t>(std::min<uint64_t>(length_bytes, piece_bytes_));
  switch (type) {
  case wire::NBD_CMD_WRITE: {
    const bool may_need_flush = facts().fua != Support::none && !is_made_durable_below(type);
    return command_bytes + (may_need_flush ? own_bytes : 0);
  }
  case wire::NBD_CMD_WRITE_ZEROES:
    return own_bytes +
           std::max(command_bytes, below().bytes_besides(wire::NBD_CMD_WRITE, zero_bytes));
  case wire::NBD_CMD_CACHE:
    if (facts().cache != Support::emulate)
      return own_bytes + command_bytes;
    return own_bytes + cache_bytes + below().bytes_besides(wire::NBD_CMD_READ, cache_bytes);
  case wire::NBD_CMD_TRIM:
  case wire::NBD_CMD_BLOCK_STATUS:
    return own_bytes + command_bytes;
  default:
    return command_bytes;
  }
}

void Emulation::give_up_unanswered() {
  is_given_up_.store(true, std::memory_order_relaxed);
  below().give_up_unanswered();
}

void Emulation::release_idle_memory() {
  requests_.trim();
  below().release_idle_memory();
}

} // namespace asyncnbd::backend
