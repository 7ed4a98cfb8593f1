// What follows a request's header: the payload of a write, received where it will be used if that
// can be, and the query of a block status. See request_reader.hpp.
#include "nbd/request_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace asyncnbd::nbd {

namespace {

// A payload from here on is received where the backend wants it, at the cost of a receive for the
// next header alone.
constexpr uint32_t MIN_RESERVED_BYTES = 64 << 10;
// A payload of these sizes stays in the pages it came in, if it goes to a file. A larger one would
// no longer be in the processor's cache when it is copied from there. Over TCP a client is less far
// ahead of what is received, but a payload comes in smaller pieces and so takes more calls.
struct PipedSizes {
  uint32_t least_bytes;
  uint32_t most_bytes;
};
constexpr PipedSizes PIPED_LOCALLY{64 << 10, 256 << 10};
constexpr PipedSizes PIPED_OVER_TCP{128 << 10, 4 << 20};
// After one for which that was no way.
constexpr unsigned COPIED_PAYLOADS = 64;
// The least by which what is admitted of a payload grows.
constexpr size_t MIN_MORE_BYTES = 128 << 10;
// A query of metadata contexts is an effect's length and then their ids.
constexpr size_t QUERY_PREFIX_BYTES = 8;
constexpr size_t CONTEXT_ID_BYTES = 4;

} // namespace

// ---- the query of a block status ---------------------------------------------------------------

// Without a query of its own: all that were negotiated.
void RequestReader::ask_contexts() {
  for (const MetaContext &context : facts_.contexts)
    incoming_->make_extras().statuses.push_back({context.id, context.number, {}});
}

// "NBD_CMD_BLOCK_STATUS" with a payload: the effect's length, and which contexts to tell of.
bool RequestReader::read_query() {
  const size_t longest = QUERY_PREFIX_BYTES + CONTEXT_ID_BYTES * facts_.contexts.size();
  const bool is_too_long = payload_bytes_ > longest;
  if (!is_too_long && input_.bytes() < payload_bytes_)
    return make_room(payload_bytes_), false;
  if (is_too_long || !take_query(input_.data()))
    incoming_->error = EINVAL;
  if (is_too_long)
    return skip(payload_bytes_);
  input_.drop(payload_bytes_);
  return finish_payload();
}

bool RequestReader::take_query(const uint8_t *query) {
  const size_t query_bytes = payload_bytes_;
  if (query_bytes < QUERY_PREFIX_BYTES + CONTEXT_ID_BYTES ||
      (query_bytes - QUERY_PREFIX_BYTES) % CONTEXT_ID_BYTES != 0)
    return false;
  PendingRequest &request = *incoming_;
  std::vector<backend::ContextStatus> &statuses = request.extras->statuses;
  std::vector<backend::ContextStatus> wanted;
  for (size_t at = QUERY_PREFIX_BYTES; at < query_bytes; at += CONTEXT_ID_BYTES) {
    const uint32_t id = wire::decode_u32(query + at);
    auto named =
        std::find_if(statuses.begin(), statuses.end(),
                     [id](const backend::ContextStatus &status) { return status.id == id; });
    if (named == statuses.end())
      return false; // unknown, or named before
    wanted.push_back(std::move(*named));
    statuses.erase(named);
  }
  statuses = std::move(wanted);
  request.length_bytes = wire::decode_u64(query);
  request.flags &= static_cast<uint16_t>(~wire::NBD_CMD_FLAG_PAYLOAD_LEN);
  wire::RequestHeader effect{request.flags, request.type, request.cookie, request.offset,
                             request.length_bytes};
  request.error = check_request(effect, style_, facts_);
  return true;
}

// ---- where a payload goes ----------------------------------------------------------------------

bool RequestReader::place_payload() {
  PendingRequest &request = *incoming_;
  request.flags &= static_cast<uint16_t>(~wire::NBD_CMD_FLAG_PAYLOAD_LEN);
  if (input_.bytes() < length_bytes()) {
    if (length_bytes() >= MIN_RESERVED_BYTES) {
      const backend::Reservation reservation = admission_.reserve(request);
      takes_pages_ = reservation.takes_pages;
      has_place_ = reservation.is_file;
      if (reservation.is_file && input_.bytes() > 0)
        admission_.unreserve(request); // what has come would have to be copied there
      else if (reservation.data != nullptr)
        return place_in(reservation);
    }
    if (is_worth_pages())
      return place_in_pages();
    if (!input_.can_hold(length_bytes()))
      return place_in_buffer();
  }
  enter(State::buffered);
  return true;
}

bool RequestReader::is_worth_pages() {
  const PipedSizes &sizes = transport_.is_local() ? PIPED_LOCALLY : PIPED_OVER_TCP;
  if (!takes_pages_ || length_bytes() < sizes.least_bytes || length_bytes() > sizes.most_bytes)
    return false;
  if (copied_payloads_ == 0)
    return true;
  copied_payloads_--;
  return false;
}

// The backend takes it in the pages it comes in. If a part of it has been copied, all of it is.
bool RequestReader::place_in_pages() {
  if (input_.bytes() == 0)
    incoming_->pages = resources_.page_pipes.take(transport::PagePipe::For::receiving);
  if (!incoming_->pages)
    return place_in_buffer();
  enter(State::paged);
  return true;
}

// The backend has a place for it.
bool RequestReader::place_in(const backend::Reservation &reservation) {
  PendingRequest &request = *incoming_;
  request.data = reservation.data;
  request.is_reserved = true;
  if (reservation.spares_copy) {
    spared_bytes_ = request.length_bytes;
    request.charge.full_bytes -= spared_bytes_;
  } else {
    admitted_bytes_ = request.length_bytes; // the disk is there anyhow
  }
  return place_elsewhere(0);
}

// One of its own, as it cannot lie in the input buffer; its beginning may be in pages.
bool RequestReader::place_in_buffer() {
  PendingRequest &request = *incoming_;
  transport::PagePipe::Owner begun = std::move(request.pages);
  const size_t begun_bytes = begun ? begun->arrived_bytes() : 0;
  base::Buffer *payload = InputBuffer::get(requests_.buffers(), length_bytes());
  if (payload == nullptr) {
    request.error = ENOMEM;
    return skip(length_bytes() - begun_bytes);
  }
  request.payload_buffer = payload;
  request.data = payload->data;
  if (begun && begun->take_out(payload->data) != begun_bytes)
    return fail("the system has lost the beginning of a payload"), false;
  return place_elsewhere(begun_bytes);
}

// What has arrived of it, from `position` on, moves to where the rest is received.
bool RequestReader::place_elsewhere(size_t position) {
  memcpy(incoming_->data + position, input_.data(), input_.bytes());
  position_ = position + input_.bytes();
  input_.drop(input_.bytes());
  enter(State::placed);
  return make_room(header_bytes()); // of the next request
}

// The memory of a file, of which the system has none just now.
void RequestReader::leave_place() {
  admission_.unreserve(*incoming_);
  incoming_->is_reserved = false;
  incoming_->data = nullptr;
  incoming_->error = EIO;
  skip(length_bytes() - position_);
}

void RequestReader::leave_pages() {
  copied_payloads_ = COPIED_PAYLOADS;
  place_in_buffer();
}

// ---- a payload comes ---------------------------------------------------------------------------

bool RequestReader::read_buffered() {
  if (input_.bytes() < length_bytes())
    return false;
  incoming_->data = input_.data();
  incoming_->payload_buffer = input_.take(length_bytes());
  if (is_worth_pages() || (has_place_ && length_bytes() >= MIN_RESERVED_BYTES))
    expect_large_payload();
  return finish_payload();
}

bool RequestReader::read_placed() {
  if (position_ >= length_bytes()) {
    input_.add(position_ - length_bytes());
    expect_large_payload();
    return finish_payload();
  }
  if (position_ < admitted_bytes_)
    return false;
  // Half as much again as has come: what a client announces, it may never send.
  wanted_bytes_ =
      std::min<size_t>(length_bytes() - admitted_bytes_, std::max(MIN_MORE_BYTES, position_ / 2));
  return true;
}

bool RequestReader::read_paged() {
  if (incoming_->pages->arrived_bytes() < length_bytes())
    return false;
  expect_large_payload();
  return finish_payload();
}

bool RequestReader::skip(uint64_t bytes) {
  skip_bytes_ = bytes;
  enter(State::skipped);
  return true;
}

bool RequestReader::read_skipped() {
  const size_t dropped = std::min<uint64_t>(skip_bytes_, input_.bytes());
  input_.drop(dropped);
  skip_bytes_ -= dropped;
  if (skip_bytes_ > 0)
    return make_room(1), false;
  return finish_payload();
}

// All of it has come; what the backend takes for a write besides is wanted now.
bool RequestReader::finish_payload() {
  if (incoming_->error == 0 && incoming_->type == wire::NBD_CMD_WRITE)
    wanted_bytes_ = besides_bytes_ - spared_bytes_;
  enter(State::whole);
  return true;
}

} // namespace asyncnbd::nbd
