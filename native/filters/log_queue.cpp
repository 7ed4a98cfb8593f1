// See log_queue.hpp.
#include "filters/log_queue.hpp"

#include <future>
#include <mutex>
#include <utility>

#include "host/log.hpp"
#include "host/log_scope.hpp"

namespace asyncnbd::filters {

void LogQueue::write(LogEvent event) {
  std::string failure;
  if (is_slow()) {
    const auto written = std::make_shared<std::promise<std::string>>(); // the setter may end later
    add(std::move(event), [written](const std::string &why) { written->set_value(why); });
    failure = written->get_future().get();
  } else {
    failure = output_->write(event);
  }
  if (!failure.empty())
    host::log_error("%s", failure.c_str());
}

void LogQueue::add(LogEvent event, Then then) {
  // Lines to a pipe must stay in order.
  const unsigned most = output_->has_script() ? MAX_SCRIPTS : 1;
  {
    std::lock_guard lock(mutex_);
    lines_.push_back({std::move(event), std::move(then)});
    if (writers_ == most)
      return;
    writers_++;
  }
  const auto work = [keep = shared_from_this(), log = host::current_log()] {
    const host::LogScope scope(log);
    keep->write_lines();
  };
  if (!threads_.run(work))
    work(); // the system is out of threads: write it here
}

void LogQueue::add_unawaited(LogEvent event) {
  bool is_first_left_out = false;
  bool has_room = false;
  {
    std::lock_guard lock(mutex_);
    has_room = unawaited_ < MAX_UNAWAITED;
    unawaited_ += has_room ? 1 : 0;
    is_first_left_out = !has_room && !std::exchange(has_left_out_, true);
  }
  if (has_room)
    add(std::move(event), nullptr);
  if (is_first_left_out)
    host::log_error("filter log: lines of requests that were given up are left out, because %zu "
                    "already wait to be written",
                    MAX_UNAWAITED);
}

void LogQueue::write_lines() {
  for (;;) {
    Line line;
    {
      std::lock_guard lock(mutex_);
      if (lines_.empty()) {
        writers_--;
        return;
      }
      line = std::move(lines_.front());
      lines_.pop_front();
    }
    const std::string failure = output_->write(line.event);
    if (line.then) {
      line.then(failure);
      continue;
    }
    if (!failure.empty())
      host::log_error("%s", failure.c_str());
    std::lock_guard lock(mutex_);
    unawaited_--;
  }
}

} // namespace asyncnbd::filters
