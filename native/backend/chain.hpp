// The filters in front of a plugin, and what they keep of its disks.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backend/filter.hpp"
#include "backend/turn_queue.hpp"
#include "base/mutex.hpp"
#include "host/context.hpp"

namespace asyncnbd::backend {

// Exactly one of the two is set.
struct ChainFilter {
  std::unique_ptr<Filter> filter;
  std::unique_ptr<OpeningFilter> opening;
};

// Lives from before the first client to after the last, and as long as anything that it has opened.
// All threads that serve it share it.
class Chain : public std::enable_shared_from_this<Chain> {
public:
  // Clients meet the first filter. Must be in a shared_ptr.
  explicit Chain(std::vector<ChainFilter> filters);
  Chain(const Chain &) = delete;
  Chain &operator=(const Chain &) = delete;

  // Once each, before the first client and after the last.
  void get_ready(int thread_model);
  void end();

  // Whether to open the plugin read-only, if no filter opens it; `is_readonly`: for a read-only
  // client.
  bool opens_readonly(bool is_readonly) const;
  // Whether it matters which disk a client opens.
  bool keeps_state() const;
  // Whether a filter opens something that belongs to no client.
  bool opens_for_all() const;
  // Whether there are filters that see more of a client than its requests.
  bool has_opening_filters() const;

  // The chain as a client meets it.
  Level front(Bottom &bottom) { return {this, 0, &bottom}; }

  // What is to be opened.
  struct Asked {
    const std::string &export_name;
    bool is_readonly;
    // The disk whose state filters use: a name that the plugin lists, or "" for all others.
    // nullptr: not known yet.
    const std::string *disk = nullptr;
    Wanted wanted;
  };

  // Puts the filters in front of what `bottom` opens, and prepares everything. May block. nullptr
  // on failure, with a message in `*error` unless it has been logged.
  std::unique_ptr<Backend> open(Bottom &bottom, const Asked &asked, std::string *error);

  // Whether the plugin or a filter has asked for the server's end before the server existed.
  bool is_shutdown_requested() const { return shutdown_wish_.is_expressed(); }

  // Held around the handshake's questions to filters, if one of them has the least thread model,
  // and that model allows one call at a time.
  std::unique_lock<TurnQueue> serialize_calls(Bottom &bottom);

private:
  friend struct Level;

  struct Disk {
    // By filter. nullptr: not made yet, or nothing to keep.
    std::vector<std::unique_ptr<DiskState>> states;
  };

  bool preconnect(const Level &level, bool readonly);
  std::optional<std::vector<ExportEntry>> list_exports(const Level &level, bool readonly);
  std::optional<std::string> default_export(const Level &level, bool readonly);
  std::unique_ptr<Backend> open_level(const Level &level, const Asked &asked, std::string *error);
  std::unique_ptr<Backend> open_at(const Level &level, const Asked &asked, std::string *error);
  std::unique_ptr<Backend> open_native(const Level &level, const Asked &asked, std::string *error);
  OpenBehind opener_behind(const Level &level, const Asked &asked);
  OpenBehind opener_for_all(const Level &level, const Asked &asked);
  std::optional<std::string> canonical_name(const Level &level, const std::string &export_name,
                                            bool readonly, std::string *error);
  std::optional<std::string> disk_of(Level level, const std::string &export_name, bool readonly);
  DiskState *state_of(const std::string &disk, size_t filter, const Facts &below,
                      std::string *error);
  std::shared_ptr<TurnQueue> turns_at(size_t index, Bottom &bottom, ThreadModel model);
  std::unique_ptr<Backend> in_turns(const Level &level, std::unique_ptr<Backend> opened);
  size_t place_of_turns() const;
  bool has_turns(size_t index) const;
  ThreadModel least_thread_model(Bottom &bottom) const;
  std::shared_ptr<TurnQueue> all_calls_at(size_t index, Bottom &bottom);
  std::unique_lock<TurnQueue> serialize_calls_at(size_t index, Bottom &bottom);
  std::unique_lock<TurnQueue> turn_of_call(const Level &level);
  std::unique_lock<TurnQueue> turn_of_question(const Level &level);
  std::unique_lock<TurnQueue> turn_behind(const Level &level);

  Level behind(const Level &level) { return {this, level.index + 1, level.bottom}; }
  Filter &filter_at(size_t index) const {
    return filters_[index].opening ? *filters_[index].opening : *filters_[index].filter;
  }
  OpeningFilter *opening_at(size_t index) const {
    return index < filters_.size() ? filters_[index].opening.get() : nullptr;
  }

  const std::vector<ChainFilter> filters_;
  host::ShutdownWish shutdown_wish_;
  base::Mutex<base::LockRank::chain> mutex_; // guards what follows, also while a state is made
  std::map<std::string, Disk> disks_;
  std::map<size_t, std::shared_ptr<TurnQueue>> all_calls_; // by place
};

// Prepares `opened`, if it is not nullptr. On failure closes it and returns nullptr, with a message
// in `*error` unless it has been logged. May block.
std::unique_ptr<Backend> prepared(std::unique_ptr<Backend> opened, const Wanted &wanted,
                                  std::string *error);

// The same as Chain::open, without filters.
std::unique_ptr<Backend> open_without_filters(Bottom &bottom, const std::string &export_name,
                                              bool readonly, const Wanted &wanted,
                                              Submitter submitter, std::string *error);

} // namespace asyncnbd::backend
