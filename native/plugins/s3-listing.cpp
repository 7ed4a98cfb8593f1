// See s3-listing.hpp.
#include "s3-listing.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <future>
#include <new>

#include "s3-xml.hpp"

namespace s3 {

namespace {

constexpr unsigned PAGE = 1000; // the most in one answer of S3

class Lister : public std::enable_shared_from_this<Lister> {
public:
  Lister(Store &store, const Layout &layout, uint64_t end, unsigned pages,
         std::function<void(Listing)> done)
      : store_(store), layout_(layout), last_(end), pages_(pages), done_(std::move(done)) {}

  /// Lists from this object on. Called once.
  void begin(uint64_t first) {
    listing_.end = first;
    // The store lists names after this one; "" lists all names with the prefix.
    ask(first == 0 ? "" : layout_.name(first - 1));
  }

private:
  void ask(const std::string &after) {
    after_ = after;
    const unsigned most = static_cast<unsigned>(std::min<uint64_t>(PAGE, last_ - listing_.end));
    http::Request request = store_.list(layout_.prefix, after, most);
    request.done = [self = shared_from_this()](const http::Response &response) {
      self->take(response);
    };
    store_.client().submit(std::move(request));
  }

  void take(const http::Response &response) {
    try {
      take_page(response);
    } catch (const std::bad_alloc &) {
      fail(ENOMEM, "out of memory");
    }
  }

  void fail(int error, std::string problem) {
    listing_.error = error;
    listing_.problem = std::move(problem);
    done_(std::move(listing_));
  }

  void take_page(const http::Response &response) {
    if (!response.is_ok() || !inside(response.text, "ListBucketResult")) {
      const Problem problem =
          store_.problem(response, "cannot list the objects of " + layout_.prefix);
      return fail(problem.error, problem.sentence);
    }
    bool is_past = false;
    const uint64_t before = listing_.end;
    std::string name;
    bool is_sorted = true;
    for_each(response.text, "Contents", [&](std::string_view inner) {
      name = text_of(inner, "Key");
      const std::optional<uint64_t> number = layout_.number(name);
      is_past = is_past || (number && *number >= last_);
      if (!number || is_past)
        return; // the name is not the volume's, or is past the end
      is_sorted = is_sorted && *number >= listing_.end;
      listing_.end = *number + 1;
      listing_.objects.push_back({*number, bytes_of(inner), text_of(inner, "ETag")});
    });
    // Old stores ignore start-after: asking them for the next page would never end.
    if (!is_sorted || (!name.empty() && name <= after_))
      return fail(EIO, "cannot list the objects of " + layout_.prefix +
                           ": the store does not list names in order, or ignores start-after");
    const bool is_truncated = text_of(response.text, "IsTruncated") == "true";
    if (is_past || !is_truncated)
      listing_.end = last_;
    else if (name.empty()) // no store should do that; asking again would never end
      return fail(EIO, "cannot list the objects of " + layout_.prefix +
                           ": the store has sent an empty page");
    if (listing_.end > before)
      pages_--;
    if (listing_.end >= last_ || pages_ == 0)
      done_(std::move(listing_));
    else
      ask(name);
  }

  static uint64_t bytes_of(std::string_view inner) {
    const std::string text = text_of(inner, "Size");
    uint64_t bytes = UINT64_MAX; // an invalid number becomes an impossible length
    std::from_chars(text.data(), text.data() + text.size(), bytes);
    return bytes;
  }

  Store &store_;
  const Layout &layout_;
  const uint64_t last_;
  unsigned pages_;
  std::function<void(Listing)> done_;
  Listing listing_;
  std::string after_; // all names of the requested page come after it
};

} // namespace

void list_objects(Store &store, const Layout &layout, uint64_t first, uint64_t end,
                  unsigned most_pages, std::function<void(Listing)> done) {
  std::make_shared<Lister>(store, layout, end, most_pages, std::move(done))->begin(first);
}

Listing list_now(Store &store, const Layout &layout, uint64_t first, uint64_t end,
                 unsigned most_pages) {
  auto promise = std::make_shared<std::promise<Listing>>();
  std::future<Listing> listing = promise->get_future();
  list_objects(store, layout, first, end, most_pages,
               [promise](Listing found) { promise->set_value(std::move(found)); });
  return listing.get();
}

} // namespace s3
