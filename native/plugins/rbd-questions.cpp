// See rbd-questions.hpp.
#include "rbd-questions.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>
#include <vector>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "rbd-errors.hpp"

namespace rbd {

namespace {

// librbd queries objects one by one, so an answer covers no more; clients ask again for the rest.
constexpr uint64_t MAX_STATUS_OBJECTS = 256;

constexpr uint64_t USUAL_OBJECT_BYTES = 4 << 20;

struct Range {
  uint64_t begin;
  uint64_t end;
};

int add_range(uint64_t offset, size_t length, int exists, void *argument) noexcept {
  try {
    if (exists != 0)
      static_cast<std::vector<Range> *>(argument)->push_back({offset, offset + length});
    return 0;
  } catch (const std::bad_alloc &) {
    return -ENOMEM;
  }
}

/// Adds extents that cover all from `at` to `end`: `ranges`, in order, have data, and the rest are
/// holes. 0, or a negative errno.
int add_extents(nbdkit_extents *extents, uint64_t at, uint64_t end,
                const std::vector<Range> &ranges) {
  const auto add = [&](uint64_t to, uint32_t type) {
    if (to <= at)
      return true;
    const int added = nbdkit_add_extent(extents, at, to - at, type);
    at = to;
    return added == 0;
  };
  for (const Range &range : ranges)
    if (!add(std::min(range.begin, end), NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) ||
        !add(std::min(range.end, end), 0))
      return -ENOMEM;
  return add(end, NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) ? 0 : -ENOMEM;
}

} // namespace

int Questions::start() {
  if (library_.rbd_get_stripe_unit(image_, &object_bytes_) < 0 || object_bytes_ == 0)
    object_bytes_ = USUAL_OBJECT_BYTES;
  try {
    for (std::thread &answerer : answerers_)
      answerer = std::thread([this] { answer_all(); });
    return 0;
  } catch (const std::system_error &error) {
    return error.code().value();
  }
}

Questions::~Questions() {
  {
    std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  changed_.broadcast();
  for (std::thread &answerer : answerers_)
    if (answerer.joinable())
      answerer.join();
}

/// Drops questions that became overdue while all answerers were busy. Call with the lock held.
void Questions::drop_overdue() {
  // They wait in the order in which they are due.
  while (!waiting_.empty() && deadlines_.is_overdue(*waiting_.front())) {
    deadlines_.end(*waiting_.front());
    waiting_.pop_front();
  }
}

int Questions::ask(const Question &given) {
  int error = ENOMEM;
  try {
    auto question = std::make_unique<Question>(given);
    question->librbd_has_it = false;
    std::lock_guard lock(mutex_);
    drop_overdue();
    Question &waiting = *waiting_.emplace_back(std::move(question));
    error = deadlines_.begin(waiting);
    if (error != 0)
      waiting_.pop_back();
  } catch (const std::bad_alloc &) { // nothing has begun
  }
  if (error != 0) {
    nbdkit_set_error(error);
    return -1;
  }
  changed_.signal();
  return 0;
}

void Questions::answer_all() {
  std::unique_lock lock(mutex_);
  for (;;) {
    while (!is_over_ && waiting_.empty())
      changed_.wait(lock);
    if (waiting_.empty())
      return;
    const std::unique_ptr<Question> question = std::move(waiting_.front());
    waiting_.pop_front();
    const bool is_over = is_over_;
    lock.unlock();
    if (!is_over && deadlines_.hand_over(*question))
      answer(*question);
    else if (deadlines_.end(*question))
      nbdkit_async_reply_errno(question->conn, question->reqid, EIO);
    lock.lock();
  }
}

void Questions::answer(Question &question) {
  const uint64_t most = MAX_STATUS_OBJECTS * object_bytes_;
  const uint64_t length = std::min<uint64_t>(question.count, most);
  std::vector<Range> ranges;
  int result = library_.rbd_diff_iterate2(image_, nullptr, question.offset, length, 1, 0, add_range,
                                          &ranges);
  if (!deadlines_.end(question))
    return;
  if (result >= 0) {
    std::sort(ranges.begin(), ranges.end(),
              [](const Range &a, const Range &b) { return a.begin < b.begin; });
    result = add_extents(question.extents, question.offset, question.offset + length, ranges);
  }
  if (result < 0) {
    nbdkit_error("cannot get the block status of %s: %s", full_name_.c_str(), strerror(-result));
    nbdkit_async_reply_errno(question.conn, question.reqid, client_error(result));
  } else {
    nbdkit_async_reply(question.conn, question.reqid);
  }
}

} // namespace rbd
