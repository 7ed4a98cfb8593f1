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
// So is it with a payload that stays in the pages it came in. More than this would no longer be in
// the processor's cache when it is copied from there.
constexpr uint32_t MIN_PIPED_WRITE_BYTES = 64 << 10;
constexpr uint32_t MAX_PIPED_WRITE_BYTES = 256 << 10;
// After one for which that was no way.
constexpr unsigned COPIED_PAYLOADS = 64;
// The least by which what is admitted of a payload grows.
constexpr size_t MIN_MORE_BYTES = 128 << 10;
// A query of metadata contexts is an effect's length and then their ids.
constexpr size_t QUERY_PREFIX_BYTES = 8;
constexpr size_t CONTEXT_ID_BYTES = 4;

} // namespace

// Of a block status without a query of its own: all that were negotiated.
void RequestReader::ask_contexts(PendingRequest *request) {
  for (const MetaContext &context : facts_.contexts)
    request->make_extras().statuses.push_back({context.id, context.number, {}});
}

// "NBD_CMD_BLOCK_STATUS" with a payload: the effect's length, and which contexts to tell of.
bool RequestReader::receive_query(PendingRequest *request, uint64_t payload_bytes) {
  const size_t longest = QUERY_PREFIX_BYTES + CONTEXT_ID_BYTES * facts_.contexts.size();
  if (payload_bytes > longest) {
    request->error = EINVAL;
    return skip(payload_bytes);
  }
  const auto bytes = static_cast<size_t>(payload_bytes);
  while (buffered_bytes() < bytes)
    if (!make_room(bytes) || !receive(false))
      return false;
  const uint8_t *query = input_->data + begin_;
  begin_ += bytes;
  if (!take_query(request, query, bytes))
    request->error = EINVAL;
  return true;
}

bool RequestReader::take_query(PendingRequest *request, const uint8_t *query, size_t length_bytes) {
  if (length_bytes < QUERY_PREFIX_BYTES + CONTEXT_ID_BYTES ||
      (length_bytes - QUERY_PREFIX_BYTES) % CONTEXT_ID_BYTES != 0)
    return false;
  std::vector<backend::ContextStatus> &statuses = request->extras->statuses;
  std::vector<backend::ContextStatus> wanted;
  for (size_t at = QUERY_PREFIX_BYTES; at < length_bytes; at += CONTEXT_ID_BYTES) {
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
  request->length_bytes = wire::decode_u64(query);
  request->flags &= static_cast<uint16_t>(~wire::NBD_CMD_FLAG_PAYLOAD_LEN);
  wire::RequestHeader effect{request->flags, request->type, request->cookie, request->offset,
                             request->length_bytes};
  request->error = check_request(effect, style_, facts_);
  return true;
}

bool RequestReader::receive_payload(PendingRequest *request) {
  request->flags &= static_cast<uint16_t>(~wire::NBD_CMD_FLAG_PAYLOAD_LEN);
  const auto length_bytes = static_cast<uint32_t>(request->length_bytes);
  if (buffered_bytes() < length_bytes) {
    if (length_bytes >= MIN_RESERVED_BYTES) {
      const backend::Reservation reservation = admission_.reserve(*request);
      takes_pages_ = reservation.takes_pages;
      has_place_ = reservation.is_file;
      if (reservation.is_file && buffered_bytes() > 0)
        admission_.unreserve(*request); // what has come would have to be copied there
      else if (reservation.data != nullptr)
        return receive_in_place(request, reservation);
    }
    if (is_worth_pages(length_bytes))
      return receive_pages(request);
    if (input_->capacity_bytes - begin_ < length_bytes)
      return receive_large_payload(request);
  }

  while (buffered_bytes() < length_bytes)
    if (!receive(false))
      return false;
  input_->ref();
  request->payload_buffer = input_;
  request->data = input_->data + begin_;
  begin_ += length_bytes;
  if (is_worth_pages(length_bytes) || (has_place_ && length_bytes >= MIN_RESERVED_BYTES))
    expect_large_payload();
  return true;
}

// The next header is to be received alone: what is likely to be behind it belongs elsewhere.
void RequestReader::expect_large_payload() {
  receive_limit_bytes_ = wire::request_header_bytes(style_);
}

// A payload for which the backend has a place.
bool RequestReader::receive_in_place(PendingRequest *request,
                                     const backend::Reservation &reservation) {
  request->data = reservation.data;
  request->is_reserved = true;
  if (reservation.spares_copy) {
    spared_bytes_ = request->length_bytes;
    request->charge.full_bytes -= spared_bytes_;
  } else {
    admitted_bytes_ = request->length_bytes; // the disk is there anyhow
  }
  if (receive_elsewhere(request))
    return true;
  if (request->is_reserved)
    admission_.unreserve(*request);
  return false;
}

// The memory of a file, of which the system has none just now.
bool RequestReader::skip_without_place(PendingRequest *request, uint64_t bytes) {
  admission_.unreserve(*request);
  request->is_reserved = false;
  request->data = nullptr;
  request->error = EIO;
  return skip(bytes);
}

// A payload that cannot lie in the input buffer; its beginning may be in pages.
bool RequestReader::receive_large_payload(PendingRequest *request,
                                          transport::PagePipe::Owner begun) {
  const size_t begun_bytes = begun ? begun->arrived_bytes() : 0;
  base::Buffer *payload = get_for_input(request->length_bytes);
  if (payload == nullptr) {
    request->error = ENOMEM;
    return skip(request->length_bytes - begun_bytes);
  }
  request->payload_buffer = payload;
  request->data = payload->data;
  const bool is_begun = !begun || begun->take_out(payload->data) == begun_bytes;
  begun.reset();
  if (is_begun && receive_elsewhere(request, begun_bytes))
    return true;
  payload->unref();
  return false;
}

bool RequestReader::is_worth_pages(uint32_t length_bytes) {
  if (length_bytes < MIN_PIPED_WRITE_BYTES || length_bytes > MAX_PIPED_WRITE_BYTES || !takes_pages_)
    return false;
  if (copied_payloads_ == 0)
    return true;
  copied_payloads_--;
  return false;
}

// A payload that the backend takes in the pages it comes in. If a part of it has been copied, all
// of it is.
bool RequestReader::receive_pages(PendingRequest *request) {
  const size_t length_bytes = request->length_bytes;
  transport::PagePipe::Owner pages;
  if (buffered_bytes() == 0)
    pages = resources_.page_pipes.take(transport::PagePipe::For::receiving);
  if (!pages)
    return receive_large_payload(request);
  while (pages->arrived_bytes() < length_bytes) {
    const ssize_t received =
        receive_into({nullptr, length_bytes - pages->arrived_bytes(), {}, pages.get()}, false);
    if (received == -ENOBUFS) {
      copied_payloads_ = COPIED_PAYLOADS;
      return receive_large_payload(request, std::move(pages));
    }
    if (received <= 0)
      return false;
  }
  expect_large_payload();
  request->pages = std::move(pages);
  return true;
}

// What the client sends will be in it, and nobody sees what is behind that.
base::Buffer *RequestReader::get_for_input(size_t bytes) {
  base::Buffer *buffer = pool_.get(bytes, base::Content::foreign);
  if (buffer != nullptr)
    buffer->content = std::max(buffer->content, base::Content::own);
  return buffer;
}

// Moves what has arrived of a payload, from `position` on, and receives the rest where the backend
// will find it.
bool RequestReader::receive_elsewhere(PendingRequest *request, size_t position) {
  uint8_t *const place = request->data;
  const size_t length_bytes = request->length_bytes;
  memcpy(place + position, input_->data + begin_, buffered_bytes());
  position += buffered_bytes();
  begin_ = end_;
  if (!make_room(wire::request_header_bytes(style_)))
    return false;
  // The next header comes along.
  const iovec next{input_->data + end_, wire::request_header_bytes(style_)};
  while (position < length_bytes) {
    while (position >= admitted_bytes_) // more may have come with the header
      if (!admit_more(request, position))
        return false;
    const bool is_last = admitted_bytes_ >= length_bytes;
    const size_t end = is_last ? length_bytes : admitted_bytes_;
    const ssize_t received =
        receive_into({place + position, end - position, is_last ? next : iovec{}}, false);
    if (received == -EFAULT && request->is_reserved)
      return skip_without_place(request, length_bytes - position);
    if (received <= 0)
      return false;
    position += static_cast<size_t>(received);
  }
  end_ += position - length_bytes;
  expect_large_payload();
  return true;
}

// Half as much again as has come: what a client announces, it may never send.
bool RequestReader::admit_more(PendingRequest *request, size_t position) {
  const size_t more = std::min<size_t>(request->length_bytes - admitted_bytes_,
                                       std::max(MIN_MORE_BYTES, position / 2));
  if (!admission_.admit(request->charge, more))
    return false;
  admitted_bytes_ += more;
  return true;
}

// What the backend takes for a write whose payload has come.
bool RequestReader::admit_besides(PendingRequest *request, uint64_t bytes) {
  if (bytes == 0 || admission_.admit(request->charge, bytes))
    return true;
  if (request->is_reserved)
    admission_.unreserve(*request);
  if (request->payload_buffer != nullptr)
    request->payload_buffer->unref();
  return false;
}

bool RequestReader::skip(uint64_t bytes) {
  for (;;) {
    size_t dropped = std::min<uint64_t>(bytes, buffered_bytes());
    begin_ += dropped;
    bytes -= dropped;
    if (bytes == 0)
      return true;
    if (!make_room(1) || !receive(false))
      return false;
  }
}

} // namespace asyncnbd::nbd
