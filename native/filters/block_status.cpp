// See block_status.hpp.
#include "filters/block_status.hpp"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "wire/constants.hpp"

namespace asyncnbd::filters {

using backend::ContextStatus;
using backend::Extent;
using backend::Request;

namespace {

// A block status may cover less than the range that was asked for.
constexpr uint64_t MAX_STATUS_BYTES = uint64_t{1} << 40;
constexpr unsigned MAX_QUESTIONS = 256;

} // namespace

void BlockStatus::begin(uint64_t offset) {
  context_ = 0;
  at_ = offset;
  questions_ = 0;
}

uint64_t BlockStatus::end_of(const Request &request) {
  return request.offset + std::min(request.length_bytes, MAX_STATUS_BYTES);
}

bool BlockStatus::is_open(const Request &request) const {
  const std::vector<Extent> &extents = request.extras->statuses[context_].extents;
  const bool only_one = (request.flags & wire::NBD_CMD_FLAG_REQ_ONE) != 0;
  return at_ < end_of(request) && !(only_one && !extents.empty()) &&
         extents.size() < wire::MAX_EXTENTS && questions_ <= MAX_QUESTIONS;
}

void BlockStatus::go_to_next(const Request &request) {
  context_++;
  at_ = request.offset;
  questions_ = 0;
}

std::optional<BlockStatus::Question> BlockStatus::ask_other(Request &request) {
  if (!request.extras->statuses[context_].extents.empty()) {
    go_to_next(request);
    return std::nullopt;
  }
  return ask(request, end_of(request) - at_);
}

std::optional<BlockStatus::Question> BlockStatus::take_known(Request &request, const Blocks &blocks,
                                                             const Known &known) {
  const uint64_t last = blocks.block_of(at_) + known.blocks - 1;
  const uint64_t bytes = std::min(end_of(request), blocks.end_of(last)) - at_;
  if (!known.flags) {
    if (questions_++ < MAX_QUESTIONS)
      return ask(request, bytes);
    return std::nullopt; // too many questions: is_open() is false now
  }
  append_extent(request.extras->statuses[context_].extents, bytes, *known.flags);
  at_ += bytes;
  return std::nullopt;
}

std::optional<BlockStatus::Question> BlockStatus::ask(const Request &request,
                                                      uint64_t length_bytes) const {
  const ContextStatus &status = request.extras->statuses[context_];
  return Question{at_, length_bytes, {status.id, status.context, {}}};
}

int BlockStatus::take(Request &request, const Request &child) {
  ContextStatus &status = request.extras->statuses[context_];
  uint64_t left_bytes = child.length_bytes;
  for (const Extent &extent : child.extras->statuses.front().extents) {
    const uint64_t bytes = std::min(left_bytes, extent.length_bytes); // it may cover more
    if (bytes > 0)
      append_extent(status.extents, bytes, extent.flags);
    left_bytes -= bytes;
  }
  at_ += child.length_bytes - left_bytes;
  return left_bytes == child.length_bytes ? EINVAL : 0;
}

} // namespace asyncnbd::filters
