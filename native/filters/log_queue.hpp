// Who writes the log filter's lines: the calling thread, or where that may take long, a few
// threads, in the order in which the lines come.
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

// Any thread. Shared with those that write, the last of which may end later than the filter.
class LogQueue : public std::enable_shared_from_this<LogQueue> {
public:
  // By a thread that may block, once the line is written; with what has gone wrong.
  using Then = std::function<void(const std::string &failure)>;

  LogQueue(std::unique_ptr<LogOutput> output, base::Threads &threads)
      : output_(std::move(output)), threads_(threads) {}

  bool is_active() const { return output_->is_active(); }
  bool is_slow() const { return output_->is_slow(); }

  // When it returns, the line is written. Of a slow output, only where the caller may block.
  void write(LogEvent event);
  // At once: the line is written later, and others after it.
  void add(LogEvent event, Then then);
  // The same if nobody waits for it. Where too many such lines wait already, it is left out.
  void add_unawaited(LogEvent event);

private:
  struct Line {
    LogEvent event;
    Then then; // nullptr: nobody waits for it
  };
  static constexpr unsigned MAX_SCRIPTS = 16; // at once, as nbdkit has threads for a client
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
