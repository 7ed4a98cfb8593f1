// Answers a block status in front of a disk of which a filter has some blocks itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "backend/request.hpp"
#include "filters/blocks.hpp"

namespace asyncnbd::filters {

// The extents of what a filter has, it says; the rest, and other contexts, are asked for below.
class BlockStatus {
public:
  // What begins at an offset: so many blocks that are alike, and their flags; none: below knows.
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

  // What to ask below next; none: the request is answered. `known` is called with the first and the
  // last block of a range.
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

  // What below has answered; an errno if that is nothing.
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
  uint64_t at_ = 0;        // up to where it is
  unsigned questions_ = 0; // for that
};

} // namespace asyncnbd::filters
