// Counts requests, and writes the counts to a file at the end, in nbdkit's format;
// request_counters.cpp counts, stats_text.cpp makes the text.
#include <cerrno>
#include <fcntl.h>
#include <string_view>
#include <unistd.h>
#include <utility>

#include "backend/emulate.hpp"
#include "base/error_numbers.hpp"
#include "filters/emulated_layer.hpp"
#include "filters/registry.hpp"
#include "filters/request_counters.hpp"
#include "filters/stats_text.hpp"
#include "host/log.hpp"

namespace asyncnbd::filters {

namespace {

using backend::Backend;
using backend::Caller;
using backend::Request;
using backend::Reservation;

// Belongs to one client. The state that is pushed with a request is its time of arrival.
class StatsLayer final : public EmulatedLayer, private backend::Completer {
public:
  StatsLayer(std::unique_ptr<Backend> opened, RequestCounters &counters, const base::Clock &clock)
      : EmulatedLayer(std::move(opened)), counters_(counters), clock_(clock),
        place_(counters.next_place()) {}

  // A read with a reservation is already answered, whether it is submitted or not.
  Reservation reserve(Request &request) override {
    if (request.type != wire::NBD_CMD_READ)
      return below().reserve(request);
    const base::Time begun = clock_.now();
    const Reservation reservation = below().reserve(request);
    if (reservation.data != nullptr)
      counters_.record(place_, request, 0, clock_.now() - begun);
    return reservation;
  }
  void unreserve(Request &request) override { below().unreserve(request); }

  void submit(Request &request, Caller caller) override;

private:
  void complete(Request &request, int error) override {
    record(request, error);
    request.complete(error);
  }
  void give_up(Request &request, int error) override {
    record(request, error);
    request.give_up(error);
  }
  void record(Request &request, int error) {
    const auto begun =
        static_cast<base::Duration::rep>(reinterpret_cast<intptr_t>(request.completers.pop(*this)));
    counters_.record(place_, request, error,
                     clock_.now().time_since_epoch() - base::Duration(begun));
  }

  RequestCounters &counters_; // owned by the filter
  const base::Clock &clock_;
  const size_t place_;
};

void StatsLayer::submit(Request &request, Caller caller) {
  if (request.type == wire::NBD_CMD_READ && request.is_reserved) {
    below().submit(request, caller); // already counted
    return;
  }
  const base::Duration now = clock_.now().time_since_epoch();
  if (!request.completers.push(*this,
                               reinterpret_cast<void *>(static_cast<intptr_t>(now.count())))) {
    refuse(request, ENOMEM);
    return;
  }
  below().submit(request, caller);
}

// Writes the text at the end; does nothing if the path is "".
class StatsFile {
public:
  ~StatsFile() { close(); }
  StatsFile() = default;
  StatsFile(const StatsFile &) = delete;
  StatsFile &operator=(const StatsFile &) = delete;

  // False: errno says why.
  bool open(const std::string &path, bool appends) {
    path_ = path;
    if (!path.empty())
      fd_ = ::open(path.c_str(), O_CLOEXEC | O_WRONLY | O_CREAT | (appends ? O_APPEND : O_TRUNC),
                   0666);
    return path.empty() || fd_ != -1;
  }
  bool is_open() const { return fd_ != -1; }

  void write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(fd_, text.data(), text.size());
      if (written == -1 && errno == EINTR)
        continue;
      if (written == -1) {
        host::log_error("statsfile=%s: cannot write the statistics: %s", path_.c_str(),
                        base::error_text(errno).c_str());
        return;
      }
      text.remove_prefix(static_cast<size_t>(written));
    }
  }
  void close() {
    if (fd_ != -1)
      ::close(std::exchange(fd_, -1));
  }

private:
  std::string path_;
  int fd_ = -1;
};

class StatsFilter final : public backend::Filter {
public:
  StatsFilter(std::shared_ptr<RequestCounters> counters, std::unique_ptr<StatsFile> file,
              double share, const backend::Resources &resources)
      : counters_(std::move(counters)), file_(std::move(file)), share_(share),
        clock_(resources.clock), threads_(resources.threads), begun_(clock_.now()) {
    if (file_->is_open() && share > 0)
      counters_->count_sizes();
  }

  const char *name() const override { return "stats"; }

  void end() override {
    using std::chrono::microseconds;
    const auto time = std::chrono::duration_cast<microseconds>(clock_.now() - begun_);
    if (file_->is_open() && time > microseconds(0))
      file_->write(stats_text(*counters_, time, share_));
    file_->close();
  }

  std::unique_ptr<Backend> open(std::unique_ptr<Backend> *below, const backend::Opening &,
                                backend::DiskState *, std::string *) override {
    return emulated(std::make_unique<StatsLayer>(std::move(*below), *counters_, clock_), threads_);
  }

private:
  const std::shared_ptr<RequestCounters> counters_;
  const std::unique_ptr<StatsFile> file_;
  const double share_;
  const base::Clock &clock_;
  base::Threads &threads_;
  const base::Time begun_;
};

// Options: file, its path; appends: to the file, instead of replacing it; percent: the share of
// requests of a kind whose sizes are listed; counters: JavaScript's counters, which it can read.
// nullptr, with a message in `*error`, for an unknown option or an invalid value, or if the file
// cannot be opened.
std::unique_ptr<backend::Filter>
make_stats(const FilterOptions &options, const backend::Resources &resources, std::string *error) {
  OptionReader reader("stats", options);
  const std::string path = reader.text("file");
  const bool appends = reader.boolean("appends", false);
  const double share = reader.real("percent", 95, 0, 100) / 100;
  std::shared_ptr<RequestCounters> counters = reader.counters("counters");
  *error = reader.error();
  if (!error->empty())
    return nullptr;
  auto file = std::make_unique<StatsFile>();
  if (!file->open(path, appends)) {
    *error = "statsfile=" + path + ": cannot open the file: " + base::error_text(errno);
    return nullptr;
  }
  if (counters == nullptr)
    counters = std::make_shared<RequestCounters>();
  return std::make_unique<StatsFilter>(std::move(counters), std::move(file), share, resources);
}

const Registered registered_stats("stats", make_stats);

} // namespace

} // namespace asyncnbd::filters
