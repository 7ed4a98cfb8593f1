// Answers a block status for a filter that has some blocks of the disk itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "backend/request.hpp"
#include "filters/blocks.hpp"

namespace asyncnbd::filters {

// The filter gives the extents of its own blocks; the backend below is asked about the rest, and
// about other contexts.
class BlockStatus {
public:
  // What begins at an offset: the number of blocks that are alike, and their flags. Without flags,
  // the backend below is asked.
  struct Known {
    uint64_t blocks;
    std::optional<uint64_t> flags;
  };
  struct Question {
    uint64_t offset;
    uint64_t length_bytes;
    backend::ContextStatus status;
  };

  void begin(uint64_t offset);

  // What to ask the backend below next; none: the request is answered. `known` is called with the
  // first and the last block of a range.
  template <typename Function>
  std::optional<Question> next(backend::Request &request, const Blocks &blocks, Function known) {
    std::optional<Question> question;
    while (!question && context_ < request.extras->statuses.size()) {
      const backend::ContextStatus &status = request.extras->statuses[context_];
      if (status.context != backend::ContextStatus::ALLOCATION)
        question = ask_other(request);
      else if (is_open(request))
        question = take_known(request, blocks,
                              known(blocks.block_of(at_), blocks.block_of(end_of(request) - 1)));
      else
        go_to_next(request);
    }
    return question;
  }

  // Takes the answer of the backend below; an errno if that is empty.
  int take(backend::Request &request, const backend::Request &child);

private:
  static uint64_t end_of(const backend::Request &request);
  bool is_open(const backend::Request &request) const;
  void go_to_next(const backend::Request &request);
  std::optional<Question> ask_other(backend::Request &request);
  std::optional<Question> take_known(backend::Request &request, const Blocks &blocks,
                                     const Known &known);
  std::optional<Question> ask(const backend::Request &request, uint64_t length_bytes) const;

  size_t context_ = 0;     // the one being answered
  uint64_t at_ = 0;        // the end of the answer so far
  unsigned questions_ = 0; // for this context
};

} // namespace asyncnbd::filters
