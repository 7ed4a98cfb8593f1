// The states of request_reader.hpp, headers, and what is received; see request_payload.cpp for what
// follows a header.
#include "nbd/request_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/error_numbers.hpp"
#include "base/invariant.hpp"
#include "host/log.hpp"

namespace asyncnbd::nbd {

namespace {

// Payloads up to here are admitted as a whole, larger ones as they come.
constexpr size_t MAX_EARLY_BYTES = InputBuffer::BYTES;

} // namespace

RequestReader::RequestReader(Resources &resources, transport::Transport &transport,
                             RequestPool &requests, const ExportFacts &facts, Admission &admission,
                             wire::ReplyStyle style)
    : resources_(resources), transport_(transport), requests_(requests), facts_(facts),
      admission_(admission), style_(style), input_(requests.buffers()) {}

RequestReader::~RequestReader() {
  end(true);
}

// ---- states ------------------------------------------------------------------------------------

void RequestReader::enter(State next) {
  using Set = uint16_t;
  constexpr auto set = [](auto... states) {
    return static_cast<Set>(((1u << static_cast<unsigned>(states)) | ...));
  };
  constexpr Set AFTER[] = {
      /* header */ set(State::placing, State::ended),
      /* placing */
      set(State::query, State::buffered, State::placed, State::paged, State::skipped, State::whole,
          State::ended),
      /* query */ set(State::skipped, State::whole, State::ended),
      /* buffered */ set(State::whole, State::ended),
      /* placed */ set(State::skipped, State::whole, State::ended),
      /* paged */ set(State::placed, State::skipped, State::whole, State::ended),
      /* skipped */ set(State::whole, State::ended),
      /* whole */ set(State::header, State::ended),
      /* ended */ set(State::ended),
  };
  base::invariant((AFTER[static_cast<size_t>(state_)] & set(next)) != 0,
                  "a request is read in the order of its parts");
  state_ = next;
}

RequestReader::Outcome RequestReader::next(PendingRequest **request) {
  if (transport_.is_aborted()) // nobody waits for replies to what has arrived
    note_end(-ECONNABORTED);
  for (;;) {
    if (wanted_bytes_ > 0 && !admits())
      return Outcome::needs_memory;
    if (state_ == State::whole) {
      *request = std::exchange(incoming_, nullptr);
      enter(State::header);
      return Outcome::request;
    }
    if (!go_on())
      return state_ == State::ended ? Outcome::ended : Outcome::needs_input;
  }
}

// False: it needs input first, or has ended.
bool RequestReader::go_on() {
  switch (state_) {
  case State::header:
    return read_header();
  case State::placing:
    return place();
  case State::query:
    return read_query();
  case State::buffered:
    return read_buffered();
  case State::placed:
    return read_placed();
  case State::paged:
    return read_paged();
  case State::skipped:
    return read_skipped();
  case State::whole:
  case State::ended:
    break;
  }
  return false;
}

// Whether what is wanted for the incoming request is there now.
bool RequestReader::admits() {
  if (!admission_.admit(incoming_->charge, wanted_bytes_))
    return false;
  if (state_ == State::placed)
    admitted_bytes_ += wanted_bytes_;
  wanted_bytes_ = 0;
  return true;
}

void RequestReader::fail(const std::string &reason) {
  admission_.on_failure(reason);
  end(true);
}

void RequestReader::end(bool leaves_input) {
  if (state_ == State::ended)
    return;
  input_is_used_up_ = !leaves_input;
  drop_incoming();
  enter(State::ended);
}

// Everything that it has had goes back.
void RequestReader::drop_incoming() {
  PendingRequest *request = std::exchange(incoming_, nullptr);
  wanted_bytes_ = 0;
  if (request == nullptr)
    return;
  if (request->is_reserved && request->type == wire::NBD_CMD_WRITE)
    admission_.unreserve(*request);
  request->pages.reset();
  for (base::Buffer *buffer : {request->reply_buffer, request->payload_buffer})
    if (buffer != nullptr)
      buffer->unref();
  request->enter(PendingRequest::Stage::incoming, PendingRequest::Stage::free);
  admission_.withdraw(request->charge);
  requests_.recycle(request, request);
}

// ---- headers -----------------------------------------------------------------------------------

bool RequestReader::read_header() {
  if (input_.bytes() < header_bytes())
    return make_room(header_bytes()), false;
  wire::RequestHeader header;
  if (!wire::decode_request(input_.data(), style_, &header))
    return fail("expected a request header"), false;
  input_.drop(header_bytes());
  begun_requests_++;
  if (header.type != wire::NBD_CMD_DISC)
    return begin(header);
  host::log_debug("client sent NBD_CMD_DISC");
  end(input_.bytes() > 0);
  return false;
}

bool RequestReader::begin(const wire::RequestHeader &header) {
  payload_bytes_ = wire::payload_bytes(header, style_);
  if (style_ == wire::ReplyStyle::extended && payload_bytes_ > wire::MAX_PAYLOAD_BYTES)
    return fail("a payload of " + std::to_string(payload_bytes_) + " bytes is too long"), false;
  PendingRequest *request = incoming_ = requests_.make();
  if (request == nullptr)
    return fail("out of memory for requests"), false;
  request->received_at = received_at_;
  request->cookie = header.cookie;
  request->offset = header.offset;
  request->length_bytes = header.length_bytes;
  request->type = header.type;
  request->flags = header.flags;
  request->error = check_request(header, style_, facts_);

  const bool is_served = request->error == 0;
  const bool reads = is_served && header.type == wire::NBD_CMD_READ;
  const bool writes = is_served && header.type == wire::NBD_CMD_WRITE;
  const bool is_reserved = reads && reserve_read();
  const uint32_t data_bytes = (reads || writes) && !is_reserved ? length_bytes() : 0;
  besides_bytes_ = is_served ? admission_.bytes_besides(header.type, header.length_bytes) : 0;
  spared_bytes_ = 0;
  request->charge.full_bytes = MemoryAccount::REQUEST_BYTES + data_bytes + besides_bytes_;
  // More of a large payload is admitted when it comes: a client may never send it.
  admitted_bytes_ =
      writes && data_bytes > MAX_EARLY_BYTES ? MemoryAccount::FIRST_BYTES : data_bytes;
  wanted_bytes_ = MemoryAccount::REQUEST_BYTES + admitted_bytes_ + (writes ? 0 : besides_bytes_);
  enter(State::placing);
  return true;
}

// False: its data need memory.
bool RequestReader::reserve_read() {
  const uint8_t *data = admission_.reserve(*incoming_).data;
  if (data == nullptr)
    return false;
  incoming_->is_reserved = true;
  incoming_->answer = {backend::Answer::Kind::disk, data};
  return true;
}

// There is memory for the request: its reply gets a place, and so does what follows the header.
bool RequestReader::place() {
  PendingRequest &request = *incoming_;
  const bool fills = request.error == 0 && request.type == wire::NBD_CMD_READ &&
                     !request.is_reserved && length_bytes() > 0;
  if (!requests_.place_reply(&request, fills ? length_bytes() : 0)) {
    request.error = ENOMEM;
    if (!fills || !requests_.place_reply(&request, 0))
      return fail("out of memory for replies"), false;
  }
  if (request.error != 0)
    return skip(payload_bytes_);
  if (request.type == wire::NBD_CMD_BLOCK_STATUS)
    ask_contexts();
  if (payload_bytes_ == 0)
    return finish_payload();
  if (request.type != wire::NBD_CMD_BLOCK_STATUS)
    return place_payload();
  enter(State::query);
  return true;
}

// ---- what is received --------------------------------------------------------------------------

bool RequestReader::make_room(size_t bytes) {
  if (input_.make_room(bytes))
    return true;
  fail("out of memory for receiving requests");
  return false;
}

RequestReader::Room RequestReader::room() const {
  const iovec space = input_.room();
  if (state_ == State::paged)
    return {.data = nullptr,
            .capacity_bytes = length_bytes() - incoming_->pages->arrived_bytes(),
            .pages = incoming_->pages.get()};
  if (state_ != State::placed)
    return {static_cast<uint8_t *>(space.iov_base), std::min(space.iov_len, receive_limit_bytes_)};
  const bool is_last = admitted_bytes_ >= length_bytes();
  const size_t end = is_last ? length_bytes() : admitted_bytes_;
  // The next header comes along.
  const iovec next{space.iov_base, header_bytes()};
  return {incoming_->data + position_, end - position_, is_last ? next : iovec{}};
}

RequestReader::Received RequestReader::receive() {
  base::invariant(wanted_bytes_ == 0 && state_ != State::whole && state_ != State::placing,
                  "what is received has its place");
  const Room room = this->room();
  const ssize_t received = room.pages != nullptr
                               ? transport_.receive_pages(*room.pages, room.capacity_bytes)
                               : transport_.receive(room.data, room.capacity_bytes, room.next);
  may_have_left_input_ = !transport_.receives_all_there_is() ||
                         received == static_cast<ssize_t>(room.capacity_bytes + room.next.iov_len);
  if (received == -EAGAIN)
    return Received::nothing;
  if (clock_ != nullptr)
    received_at_ = clock_->now();
  if (received > 0) {
    add_received(static_cast<size_t>(received));
    return Received::something;
  }
  if (received == -ENOBUFS && state_ == State::paged) {
    leave_pages();
    return Received::something;
  }
  if (received == -EFAULT && state_ == State::placed && incoming_->is_reserved) {
    leave_place();
    return Received::something;
  }
  note_end(received);
  return Received::end;
}

void RequestReader::add_received(size_t bytes) {
  received_bytes_ += bytes;
  if (state_ == State::placed) {
    position_ += bytes;
  } else if (state_ != State::paged) {
    receive_limit_bytes_ = InputBuffer::BYTES;
    input_.add(bytes);
  }
}

// The next header is to be received alone: what is likely to be behind it belongs elsewhere.
void RequestReader::expect_large_payload() {
  receive_limit_bytes_ = header_bytes();
}

void RequestReader::note_end(ssize_t received) {
  if (state_ == State::ended)
    return;
  const bool between_requests = is_between_requests();
  client_has_left_ = true;
  end(false);
  if (transport_.is_aborted()) // by us
    return;
  if (received < 0)
    admission_.on_failure(std::string("cannot receive requests: ") +
                          base::error_text(static_cast<int>(-received)));
  else if (between_requests)
    host::log_debug("client disconnected without NBD_CMD_DISC");
  else
    admission_.on_failure("disconnected in the middle of a request");
}

} // namespace asyncnbd::nbd
