// See s3-sweep.hpp.
#include "s3-sweep.hpp"

#include <cerrno>
#include <mutex>
#include <new>
#include <optional>
#include <utility>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "s3-listing.hpp"

namespace s3 {

namespace {

// While the objects of so many pages are removed, no further pages are listed.
constexpr unsigned MOST_PAGES = 4;

class Sweep : public std::enable_shared_from_this<Sweep> {
public:
  Sweep(Store &store, const Layout &layout, Objects &objects, uint64_t end,
        std::shared_ptr<Parts> parts)
      : store_(store), layout_(layout), objects_(objects), end_(end), parts_(std::move(parts)) {}

  void list(uint64_t first) {
    const auto done = [self = shared_from_this(), asked_at = http::Clock::now()](
                          const Listing &listing) { self->take(listing, asked_at); };
    list_objects(store_, layout_, first, end_, 1, done);
  }

private:
  void list_or_fail(uint64_t first) {
    try {
      list(first);
    } catch (const std::bad_alloc &) {
      parts_->fail(ENOMEM);
    }
  }

  void take(const Listing &listing, http::Clock::time_point asked_at) {
    if (!listing.problem.empty()) {
      nbdkit_error("%s", listing.problem.c_str());
      parts_->fail(listing.error);
      return;
    }
    try {
      remove(listing, asked_at);
    } catch (const std::bad_alloc &) {
      parts_->fail(ENOMEM);
      return;
    }
    bool goes_on = listing.end < end_;
    {
      std::lock_guard lock(mutex_);
      if (goes_on && pages_ >= MOST_PAGES) {
        next_ = listing.end;
        goes_on = false;
      }
    }
    if (goes_on)
      list_or_fail(listing.end);
  }

  void remove(const Listing &listing, http::Clock::time_point asked_at) {
    const auto page =
        std::make_shared<Parts>([self = shared_from_this()](int error) { self->take_end(error); });
    {
      std::lock_guard lock(mutex_);
      pages_++;
    }
    objects_.remove(listing.objects, asked_at, page);
  }

  /// Called when the objects of a page are removed, on any thread.
  void take_end(int error) {
    std::optional<uint64_t> next;
    {
      std::lock_guard lock(mutex_);
      pages_--;
      next = std::exchange(next_, std::nullopt);
    }
    if (error != 0)
      parts_->fail(error);
    else if (next)
      list_or_fail(*next);
  }

  Store &store_;
  const Layout &layout_;
  Objects &objects_;
  const uint64_t end_;
  const std::shared_ptr<Parts> parts_;
  std::mutex mutex_;
  unsigned pages_ = 0;           // guarded by mutex_: pages whose objects are being removed
  std::optional<uint64_t> next_; // guarded by mutex_: where to go on when a page is done
};

} // namespace

void sweep(Store &store, const Layout &layout, Objects &objects, uint64_t first, uint64_t end,
           const std::shared_ptr<Parts> &parts) {
  std::make_shared<Sweep>(store, layout, objects, end, parts)->list(first);
}

} // namespace s3
