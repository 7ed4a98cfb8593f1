// Changes a volume's objects: one batch of changes at a time for each object; changes that come
// meanwhile wait, and become the next batch.
//
//   waiting changes ─> a batch ─> [GET or HEAD, unless all is known] ─> PUT or DELETE ─> answers
//                                       ^                                   │
//                                       └── 412: the version was a guess ───┘
//
// Objects that wait to be removed at the same time are removed by one request, if the store has it.
#ifndef ASYNCNBD_S3_OBJECTS_HPP
#define ASYNCNBD_S3_OBJECTS_HPP

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "s3-conditions.hpp"
#include "s3-layout.hpp"
#include "s3-listing.hpp"
#include "s3-store.hpp"
#include "s3-versions.hpp"

namespace s3 {

/// A client's request for several objects: it is answered when the last one is done, with the first
/// error.
class Parts {
public:
  explicit Parts(std::function<void(int error)> answer) : answer_(std::move(answer)) {}
  Parts(const Parts &) = delete;
  Parts &operator=(const Parts &) = delete;
  ~Parts() { answer_(error_.load(std::memory_order_acquire)); }
  void fail(int error) {
    int none = 0;
    error_.compare_exchange_strong(none, error, std::memory_order_acq_rel);
  }

private:
  std::function<void(int error)> answer_;
  std::atomic<int> error_{0};
};

/// A change of the bytes [begin, end) of an object.
struct Change {
  uint32_t begin;
  uint32_t end;
  const char *data; // borrowed until the answer; null: zeroes
  std::shared_ptr<Parts> parts;
  std::string listed_etag = {}; // from a list that was asked for at `listed_at`; "": no list
  http::Clock::time_point listed_at = {};
};

class Objects {
public:
  Objects(Store &store, const Layout &layout) : store_(store), layout_(layout) {}

  void use(const Conditions &conditions) {
    conditions_ = conditions;
    removes_many_.store(conditions.removes_many, std::memory_order_release);
    has_removed_many_.store(conditions.removes_many, std::memory_order_release);
  }
  const Conditions &conditions() const { return conditions_; }
  Versions &versions() { return versions_; }
  /// True: there is another writer, and all changes are refused from then on.
  bool is_stopped() const { return is_stopped_.load(std::memory_order_acquire); }

  /// May be called by any thread.
  void change(uint64_t number, const Change &change);
  /// Removes the objects of a list that was asked for at `listed_at`. May be called by any thread.
  void remove(std::span<const Listed> listed, http::Clock::time_point listed_at,
              const std::shared_ptr<Parts> &parts);

  /// "" if the length is right; otherwise a message.
  std::string wrong_length(uint64_t number, uint64_t bytes) const;

private:
  struct Object {
    explicit Object(uint64_t its_number) : number(its_number) {}
    const uint64_t number;
    std::vector<Change> waiting; // guarded by mutex_
    // The batch in progress:
    std::vector<Change> batch;
    bool is_removal = false;    // the last change zeroes the whole object
    size_t first_of_effect = 0; // changes before it are covered by one of the whole object
    Version version;            // the version to replace
    std::vector<char> content;
    std::span<const char> body; // `content`, or a change's own data
    std::vector<char> found;    // the store's content after a condition has failed
  };
  using ObjectPtr = std::shared_ptr<Object>;
  using Step = void (Objects::*)(const ObjectPtr &, const http::Response &);
  struct Removals {                 // by one request
    std::vector<ObjectPtr> objects; // those that are not finished yet
    std::string document;
  };

  void add(uint64_t number, const Change &change);
  void start_next();
  ObjectPtr take_next();
  void begin(const ObjectPtr &object);
  void begin_write(const ObjectPtr &object);
  bool covers_all(const Object &object) const;
  static bool has_data(const Object &object);
  void submit(http::Request request, const ObjectPtr &object, Step next);
  void ask_for_content(const ObjectPtr &object);
  void take_content(const ObjectPtr &object, const http::Response &response);
  void ask_for_version(const ObjectPtr &object);
  void take_version(const ObjectPtr &object, const http::Response &response);
  void apply(const ObjectPtr &object);
  void put(const ObjectPtr &object);
  void take_put(const ObjectPtr &object, const http::Response &response);
  void compare(const ObjectPtr &object);
  void take_found(const ObjectPtr &object, const http::Response &response);
  bool is_whole(const Change &change) const;
  bool was_just_listed(const Object &object) const;
  void begin_removal(const ObjectPtr &object);
  void check_removed(const ObjectPtr &object);
  void take_checked(const ObjectPtr &object, const http::Response &response);
  void attempt(const ObjectPtr &object, void (Objects::*work)(const ObjectPtr &));
  void remove_soon(const ObjectPtr &object);
  bool send_removals();
  bool can_join(const Object &object) const;
  std::string guard_of(const Object &object) const;
  bool is_refusal(const http::Response &response) const;
  void remove_together(std::span<const ObjectPtr> objects);
  void take_removals(Removals &batch, const http::Response &response);
  void fail_all(Removals &batch, const http::Response &response);
  void finish_all(Removals &batch, int error);
  void finish_removed(const ObjectPtr &object);
  void remove_alone(const ObjectPtr &object);
  void take_removal(const ObjectPtr &object, const http::Response &response);
  void check_gone(const ObjectPtr &object);
  void take_gone(const ObjectPtr &object, const http::Response &response);
  void stop_writing(const ObjectPtr &object);
  void fail(const ObjectPtr &object, const http::Response &response, const char *what);
  void finish(const ObjectPtr &object, int error);
  void fail_length(const ObjectPtr &object, uint64_t bytes);
  bool is_expected(const Object &object, const Version &found) const;
  Version version_of(const http::Response &response) const;
  size_t most_at_once() const;

  Store &store_;
  const Layout &layout_;
  Conditions conditions_;
  Versions versions_;
  std::atomic<bool> is_stopped_{false};
  std::atomic<bool> removes_many_{true};      // until the store refuses DeleteObjects
  std::atomic<bool> has_removed_many_{false}; // the store has answered DeleteObjects

  std::mutex mutex_; // guards what follows; nothing is submitted or answered while it is held
  std::unordered_map<uint64_t, ObjectPtr> objects_; // objects with changes
  std::deque<ObjectPtr> ready_;                     // waiting for their turn
  std::vector<ObjectPtr> removals_;                 // ready to be removed by the next request
  size_t busy_ = 0;                                 // batches in progress that may have content
};

} // namespace s3

#endif
