// Decides which thread writes the log filter's lines: the calling one, or, if that may take long,
// one of a few others, in the order of the lines.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "base/mutex.hpp"
#include "base/threads.hpp"
#include "filters/log_output.hpp"

namespace asyncnbd::filters {

// Any thread. Shared with the writing threads, the last of which may outlive the filter.
class LogQueue : public std::enable_shared_from_this<LogQueue> {
public:
  // Called on a thread that may block, once the line is written; with an error message or "".
  using Then = std::function<void(const std::string &failure)>;

  LogQueue(std::unique_ptr<LogOutput> output, base::Threads &threads)
      : output_(std::move(output)), threads_(threads) {}

  bool is_active() const { return output_->is_active(); }
  bool is_slow() const { return output_->is_slow(); }

  // When it returns, the line is written. If the output is slow, only a caller that may block may
  // call it.
  void write(LogEvent event);
  // Returns at once: the line is written later, and others after it.
  void add(LogEvent event, Then then);
  // The same if nobody waits for the line. If too many such lines wait already, it is dropped.
  void add_unawaited(LogEvent event);

private:
  struct Line {
    LogEvent event;
    Then then; // nullptr: nobody waits
  };
  static constexpr unsigned MAX_SCRIPTS = 16; // at once: nbdkit's number of threads for a client
  static constexpr size_t MAX_UNAWAITED = 1024;

  void write_lines();

  const std::unique_ptr<LogOutput> output_;
  base::Threads &threads_;
  base::Mutex<base::LockRank::log_queue> mutex_; // guards the rest
  std::deque<Line> lines_;
  unsigned writers_ = 0;
  size_t unawaited_ = 0;
  bool has_left_out_ = false;
};

} // namespace asyncnbd::filters
