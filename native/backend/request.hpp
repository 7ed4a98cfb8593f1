// A request on its way down through the layers of a chain, and back up.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/completers.hpp"
#include "backend/sparse.hpp"
#include "transport/page_pipe.hpp"

namespace asyncnbd::backend {

// The question of an NBD_CMD_BLOCK_STATUS about one metadata context, and the answer.
struct ContextStatus {
  uint32_t id;                 // the client's id for it
  uint32_t context;            // ALLOCATION, or the number of one of the backend's own from 1 on
  std::vector<Extent> extents; // set by the backend: from the request's offset on, at least one

  static constexpr uint32_t ALLOCATION = 0;
};

// Rare parts of a request, kept apart so that requests are small.
struct RequestExtras {
  // Of an NBD_CMD_BLOCK_STATUS: the contexts to ask about.
  std::vector<ContextStatus> statuses;
  // Of a read that may have holes, set by the backend unless everything is data: the parts of the
  // range. Holes need no data. With an error at `error_offset`, the parts before it.
  std::unique_ptr<std::vector<Run>> runs;
  // Set by the backend before it completes with an error, if known: a message for the client, and
  // the offset of the error.
  std::string error_text;
  std::optional<uint64_t> error_offset;
};

// Where the data of a successful read is, and for how long.
struct Answer {
  enum class Kind : uint8_t {
    filled,   // in the request's `data`
    disk,     // at `data`, part of the disk until close: may leave as references to its pages
    lent,     // at `data`, until give_back; to be copied or sent, as it will be used again
    borrowed, // at `data`, until `complete` returns
    pages,    // in the request's `pages`
  };
  Kind kind = Kind::filled;
  const uint8_t *data = nullptr;
  void (*give_back)(void *opaque) = nullptr; // for `lent`: any thread, also after a failure
  void *opaque = nullptr;

  bool is_elsewhere() const { return data != nullptr; }
  // Called once, when nobody uses the data any more.
  void give_back_data() const {
    if (give_back != nullptr)
      give_back(opaque);
  }
};

// No step of this can overflow.
constexpr bool is_inside(uint64_t offset, uint64_t length_bytes, uint64_t size_bytes) {
  return offset <= size_bytes && length_bytes <= size_bytes - offset;
}

// A request that has passed the connection's checks: the range lies inside the export and the
// export offers the command and its flags.
struct Request {
  Completers completers;
  uint64_t offset;
  uint64_t length_bytes; // at most MAX_PAYLOAD_BYTES for a read or write
  uint16_t type;         // NBD_CMD_*
  uint16_t flags;        // NBD_CMD_FLAG_*; FUA only on commands that write
  uint8_t *data;         // length_bytes to fill for a read, to store for a write; else nullptr
  // A write's data, if it is not at `data`; for a read with `may_answer_in_pages`, the answer.
  transport::PagePipe::Owner pages;
  bool may_answer_in_pages; // of a read
  // Of a write: `data` is memory that the backend has reserved. Of a read: `answer` is already set.
  bool is_reserved;
  void *reservation;   // of a reserved write: the backend's, from reserve to submit or unreserve
  bool may_have_holes; // of a read: see RequestExtras::runs
  uint64_t data_until; // of such a read, set by the backend if it has found no hole: up to this
                       // offset, perhaps past the read's end, all is data; 0: nobody knows
  Answer answer;       // of a read: set by the backend before it completes it
  std::unique_ptr<RequestExtras> extras;

  RequestExtras &make_extras() {
    if (!extras)
      extras = std::make_unique<RequestExtras>();
    return *extras;
  }

  // Of a read that may have holes: notes the extents from its offset on. False: it has no holes
  // worth a chunk.
  bool note_extents(const std::vector<Extent> &extents) {
    if (auto runs = divide_read(extents, offset, static_cast<uint32_t>(length_bytes))) {
      make_extras().runs = std::move(runs);
      return true;
    }
    if (!extents.empty())
      data_until = offset + extents.front().length_bytes;
    return false;
  }

  // For a read that has been answered with `error`: puts its data into `data`.
  void take_answer(int error) {
    if (error == 0 && answer.is_elsewhere() && answer.data != data)
      std::memcpy(data, answer.data, length_bytes);
    answer.give_back_data();
    answer = {};
  }

  // For a write that is carried out on behalf of another, which keeps the memory: takes all of its
  // data.
  void take_payload(Request &from) {
    data = from.data;
    pages = std::move(from.pages);
    is_reserved = from.is_reserved;
    reservation = std::exchange(from.reservation, nullptr);
  }

  // Completes to the top of the completers. The request must not be touched afterwards.
  void complete(int error) { completers.top().complete(*this, error); }
  void give_up(int error) { completers.top().give_up(*this, error); }
};

} // namespace asyncnbd::backend
