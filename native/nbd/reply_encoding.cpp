// See reply_encoding.hpp.
#include "nbd/reply_encoding.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "nbd/pending_request.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace asyncnbd::nbd {

using namespace wire;

namespace {

// Longer words help nobody; the specification allows MAX_STRING_BYTES.
constexpr size_t MAX_ERROR_TEXT_BYTES = 1024;
// Where an extent's length is sent in 32 bits; this keeps it a multiple of all block sizes.
constexpr uint64_t MAX_EXTENT_BYTES = UINT64_C(0xffff0000);

bool is_structured(const PendingRequest &request) {
  return request.style != ReplyStyle::simple;
}

} // namespace

// Appends chunks to a reply.
class ReplyBuilder {
public:
  explicit ReplyBuilder(const PendingRequest &request) : request_(request) {}

  void chunk(uint16_t type, size_t payload_bytes, bool is_last) {
    const ChunkHeader header{static_cast<uint16_t>(is_last ? NBD_REPLY_FLAG_DONE : 0), type,
                             request_.cookie, request_.offset, payload_bytes};
    encode_chunk_header(grow(chunk_header_bytes(request_.style)), request_.style, header);
  }
  void u16(uint16_t value) { encode_u16(grow(2), value); }
  void u32(uint32_t value) { encode_u32(grow(4), value); }
  void u64(uint64_t value) { encode_u64(grow(8), value); }
  void text(std::string_view words) { made_.append(words); }

  // Memory that is to be sent from where it is.
  void data(const uint8_t *memory, size_t length_bytes) {
    close_piece();
    pieces_.push_back({const_cast<uint8_t *>(memory), length_bytes});
  }

  // nullptr if memory is short.
  EncodedReply::Owner finish(base::BufferPool &memory) {
    close_piece();
    const size_t pieces_bytes = pieces_.size() * sizeof(iovec);
    const size_t all_bytes = sizeof(EncodedReply) + pieces_bytes + made_.size();
    const base::BufferPool::Piece place = memory.carve(all_bytes);
    if (place.data == nullptr)
      return nullptr;
    auto *pieces = reinterpret_cast<iovec *>(place.data + sizeof(EncodedReply));
    uint8_t *made = place.data + sizeof(EncodedReply) + pieces_bytes;
    memcpy(made, made_.data(), made_.size());
    size_t bytes = 0;
    for (size_t i = 0; i < pieces_.size(); i++) {
      iovec piece = pieces_[i];
      if (piece.iov_base == nullptr) {
        piece.iov_base = made;
        made += piece.iov_len;
      }
      bytes += piece.iov_len;
      new (&pieces[i]) iovec(piece);
    }
    return EncodedReply::Owner(
        new (place.data) EncodedReply{bytes, all_bytes, {pieces, pieces_.size()}, place.buffer});
  }

private:
  uint8_t *grow(size_t bytes) {
    const size_t at = made_.size();
    made_.resize(at + bytes);
    return reinterpret_cast<uint8_t *>(made_.data()) + at;
  }

  void close_piece() {
    const size_t made = made_.size() - closed_bytes_;
    if (made > 0)
      pieces_.push_back({nullptr, made});
    closed_bytes_ = made_.size();
  }

  const PendingRequest &request_;
  std::string made_;
  std::vector<iovec> pieces_; // without an address: the next ones of what was made
  size_t closed_bytes_ = 0;   // of made_, that are in pieces
};

namespace {

// "NBD_REPLY_TYPE_BLOCK_STATUS": with REQ_ONE one extent no longer than asked for; else as many
// as it takes to cover the range, of which the last one may reach beyond it.
std::vector<backend::Extent> reported_extents(const PendingRequest &request,
                                              const std::vector<backend::Extent> &extents) {
  const bool only_one = (request.flags & NBD_CMD_FLAG_REQ_ONE) != 0;
  const uint64_t limit_bytes =
      request.style == ReplyStyle::extended ? UINT64_MAX : MAX_EXTENT_BYTES;
  std::vector<backend::Extent> reported;
  uint64_t covered_bytes = 0;
  for (const backend::Extent &extent : extents) {
    if (extent.length_bytes == 0)
      continue;
    uint64_t length_bytes = std::min(extent.length_bytes, limit_bytes);
    if (only_one)
      length_bytes = std::min(length_bytes, request.length_bytes);
    reported.push_back({length_bytes, extent.flags});
    covered_bytes += length_bytes;
    if (only_one || covered_bytes >= request.length_bytes || length_bytes < extent.length_bytes ||
        reported.size() == MAX_EXTENTS)
      break;
  }
  return reported;
}

void add_status(ReplyBuilder &reply, const PendingRequest &request,
                const backend::ContextStatus &status, bool is_last) {
  const std::vector<backend::Extent> reported = reported_extents(request, status.extents);
  const auto count = static_cast<uint32_t>(reported.size());
  if (request.style == ReplyStyle::extended) {
    reply.chunk(NBD_REPLY_TYPE_BLOCK_STATUS_EXT, 8 + size_t{16} * count, is_last);
    reply.u32(status.id);
    reply.u32(count);
    for (const backend::Extent &extent : reported) {
      reply.u64(extent.length_bytes);
      reply.u64(extent.flags);
    }
    return;
  }
  reply.chunk(NBD_REPLY_TYPE_BLOCK_STATUS, 4 + size_t{8} * count, is_last);
  reply.u32(status.id);
  for (const backend::Extent &extent : reported) {
    reply.u32(static_cast<uint32_t>(extent.length_bytes));
    reply.u32(static_cast<uint32_t>(extent.flags)); // contexts with more are not for this style
  }
}

// Sets the reply that was made.
void keep(PendingRequest &request, EncodedReply::Owner reply) {
  if (reply == nullptr)
    request.error = ENOMEM;
  request.encoded = std::move(reply);
}

void encode_statuses(PendingRequest &request, uint64_t block_bytes, base::BufferPool &memory) {
  ReplyBuilder reply(request);
  std::vector<backend::ContextStatus> &statuses = request.extras->statuses;
  for (backend::ContextStatus &status : statuses) {
    if (status.extents.empty()) { // the backend has said nothing of the range
      request.error = EINVAL;
      return;
    }
    if (block_bytes > 1 && status.context == backend::ContextStatus::ALLOCATION)
      backend::align_extents(status.extents, request.offset, block_bytes);
    add_status(reply, request, status, &status == &statuses.back());
  }
  keep(request, reply.finish(memory));
}

// The runs of a read before `end`.
void add_runs(ReplyBuilder &reply, const PendingRequest &request, uint64_t end, bool ends_reply) {
  const uint8_t *data = request.answer.data != nullptr ? request.answer.data : request.data;
  const std::vector<backend::Run> &runs = *request.extras->runs;
  for (const backend::Run &run : runs) {
    if (run.offset >= end)
      break;
    const bool is_last = ends_reply && &run == &runs.back();
    if (run.is_hole) {
      reply.chunk(NBD_REPLY_TYPE_OFFSET_HOLE, HOLE_BYTES, is_last);
      reply.u64(run.offset);
      reply.u32(run.length_bytes);
    } else {
      reply.chunk(NBD_REPLY_TYPE_OFFSET_DATA, DATA_PREFIX_BYTES + run.length_bytes, is_last);
      reply.u64(run.offset);
      reply.data(data + (run.offset - request.offset), run.length_bytes);
    }
  }
}

// Of the character that is first in a text; 0: it is none of UTF-8, which has none that are longer
// than need be, no halves of pairs, and none beyond the last.
size_t character_bytes(std::string_view text) {
  const auto byte = [text](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const uint8_t first = byte(0);
  if (first < 0x80)
    return 1;
  const uint8_t least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const uint8_t most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (first < 0xc2 || first > 0xf4 || byte(1) < least || byte(1) > most)
    return 0;
  const size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  for (size_t i = 2; i < bytes; i++)
    if ((byte(i) & 0xc0) != 0x80)
      return 0;
  return bytes;
}

// What a plugin says may be in any encoding, or none; clients get UTF-8.
std::string as_utf8(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t bytes = character_bytes(text);
    result += bytes > 0 ? text.substr(0, bytes) : std::string_view("?");
    text.remove_prefix(bytes > 0 ? bytes : 1);
  }
  return result;
}

// So many bytes of UTF-8 at the most, and no half characters.
std::string_view cut(std::string_view text, size_t most_bytes) {
  if (text.size() <= most_bytes)
    return text;
  while (most_bytes > 0 && (static_cast<uint8_t>(text[most_bytes]) & 0xc0) == 0x80)
    most_bytes--;
  return text.substr(0, most_bytes);
}

void encode_error(PendingRequest &request, base::BufferPool &memory) {
  const backend::RequestExtras &extras = *request.extras;
  ReplyBuilder reply(request);
  if (extras.runs && extras.error_offset)
    add_runs(reply, request, *extras.error_offset, false);
  const std::string text = as_utf8(extras.error_text);
  const std::string_view words = cut(text, MAX_ERROR_TEXT_BYTES);
  const size_t offset_bytes = extras.error_offset ? 8 : 0;
  reply.chunk(extras.error_offset ? NBD_REPLY_TYPE_ERROR_OFFSET : NBD_REPLY_TYPE_ERROR,
              ERROR_PREFIX_BYTES + words.size() + offset_bytes, true);
  reply.u32(error_from_errno(request.error, request.flags));
  reply.u16(static_cast<uint16_t>(words.size()));
  reply.text(words);
  if (extras.error_offset)
    reply.u64(*extras.error_offset);
  request.encoded = reply.finish(memory); // without one, the client is told the error alone
}

} // namespace

size_t data_header_bytes(ReplyStyle style) {
  return style == ReplyStyle::simple ? SIMPLE_REPLY_BYTES
                                     : chunk_header_bytes(style) + DATA_PREFIX_BYTES;
}

bool has_data(const PendingRequest &request) {
  return request.type == NBD_CMD_READ && request.error == 0;
}

// A simple reply stays what success without data gets from a structured reply's server.
size_t header_bytes(const PendingRequest &request) {
  if (!is_structured(request))
    return SIMPLE_REPLY_BYTES;
  if (request.error != 0)
    return chunk_header_bytes(request.style) + ERROR_PREFIX_BYTES;
  if (has_data(request))
    return data_header_bytes(request.style);
  return request.style == ReplyStyle::extended ? EXTENDED_CHUNK_HEADER_BYTES : SIMPLE_REPLY_BYTES;
}

void encode_header(const PendingRequest &request) {
  const uint32_t error = error_from_errno(request.error, request.flags);
  const bool is_data = has_data(request);
  const bool needs_chunk =
      request.style == ReplyStyle::extended || (is_structured(request) && (is_data || error != 0));
  if (!needs_chunk) {
    encode_simple_reply(request.reply, request.cookie, error);
    return;
  }
  ChunkHeader header{NBD_REPLY_FLAG_DONE, NBD_REPLY_TYPE_NONE, request.cookie, request.offset, 0};
  uint8_t *payload = request.reply + chunk_header_bytes(request.style);
  if (error != 0) {
    header.type = NBD_REPLY_TYPE_ERROR;
    header.payload_bytes = ERROR_PREFIX_BYTES;
    encode_u32(payload, error);
    encode_u16(payload + 4, 0);
  } else if (is_data) {
    header.type = NBD_REPLY_TYPE_OFFSET_DATA;
    header.payload_bytes = DATA_PREFIX_BYTES + request.length_bytes;
    encode_u64(payload, request.offset);
  }
  encode_chunk_header(request.reply, request.style, header);
}

void encode_answer(PendingRequest &request, uint64_t block_bytes, base::BufferPool &memory) {
  if (!request.extras)
    return;
  if (is_structured(request)) {
    if (request.error == 0 && request.type == NBD_CMD_BLOCK_STATUS)
      encode_statuses(request, block_bytes, memory);
    else if (has_data(request) && request.extras->runs) {
      ReplyBuilder reply(request);
      add_runs(reply, request, UINT64_MAX, true);
      keep(request, reply.finish(memory));
    }
    if (request.error != 0)
      encode_error(request, memory);
  }
  request.extras.reset(); // of which there may be much
}

void PendingRequest::reset() {
  static_cast<backend::Request &>(*this) = {};
  charge = {};
  error = 0;
  reply_buffer = payload_buffer = nullptr;
  is_given_up = false;
  holders.store(2, std::memory_order_relaxed);
  style = ReplyStyle::simple;
  encoded.reset();
}

} // namespace asyncnbd::nbd
