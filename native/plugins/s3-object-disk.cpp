// See s3-object-disk.hpp.
#include "s3-object-disk.hpp"

#include "s3-listing.hpp"

namespace s3 {

ObjectDisk::ObjectDisk(Store &store)
    : store_(store), reads_(join_limits(store.settings()),
                            [this](Reads::Group group) { send(std::move(group)); }) {}

/// A hint to add to a message, if a volume's objects are there instead.
std::string ObjectDisk::hint_at_volume() const {
  const Layout layout{store_.settings().key + "/", 0, 1};
  const Listing listing = list_now(store_, layout, 0, UINT64_MAX, 1);
  if (listing.objects.empty())
    return "";
  const Listed &first = listing.objects.front();
  return "; there is " + layout.name(first.object) +
         ", which looks like a volume: give its size= and object-size=" +
         std::to_string(first.bytes);
}

// Sends a GET for the first byte, because the answer to a HEAD has no document that says what is
// wrong.
bool ObjectDisk::start() {
  const std::string &key = store_.settings().key;
  http::Request request = store_.object(http::Method::get, key);
  request.range = http::Range{0, 1};
  const http::Response response = store_.client().perform(std::move(request));
  const std::optional<uint64_t> total = total_of(response.field(http::Field::content_range));
  if (response.status == 416 && total.value_or(0) == 0) {
    nbdkit_error("the object \"%s\" is empty: there is nothing to serve", key.c_str());
    return false;
  }
  if (!response.is_ok()) {
    std::string words = store_.problem(response, "cannot open the object " + key, key).sentence;
    if (Store::code_of(response) == "NoSuchKey")
      words += hint_at_volume();
    nbdkit_error("%s", words.c_str());
    return false;
  }
  if (response.status != 206 || !total) {
    nbdkit_error("the store did not send the requested range of the object %s: check endpoint-url=",
                 key.c_str());
    return false;
  }
  size_bytes_ = *total;
  etag_ = response.field(http::Field::etag);
  return true;
}

bool ObjectDisk::is_same(const http::Response &response) const {
  return total_of(response.field(http::Field::content_range)) == size_bytes_ &&
         response.field(http::Field::etag) == etag_;
}

void ObjectDisk::read(nbdkit::ReadRequest request) {
  const uint64_t offset = request.offset(); // before it is moved
  const uint64_t count = request.count();
  reads_.add(store_.client(), offset, count, std::move(request));
}

void ObjectDisk::send(Reads::Group given) {
  const auto group = std::make_shared<Reads::Group>(std::move(given));
  http::Request request = store_.object(http::Method::get, store_.settings().key);
  request.range = http::Range{group->offset, group->count};
  for (const nbdkit::ReadRequest &read : group->reads)
    request.into.emplace_back(reinterpret_cast<char *>(read.buffer().data()), read.count());
  request.retry.deadline_ms = http::left_ms(request.retry.deadline_ms, group->since);
  request.done = [this, group](const http::Response &response) {
    const bool is_done = is_right(*group, response);
    for (nbdkit::ReadRequest &read : group->reads)
      is_done ? std::move(read).done() : std::move(read).fail(EIO);
    reads_.is_over();
  };
  store_.client().submit(std::move(request));
}

/// Whether the response has the group's bytes. If not, the log says why.
bool ObjectDisk::is_right(const Reads::Group &group, const http::Response &response) {
  const std::string &key = store_.settings().key;
  const bool is_gone =
      response.failure == http::Failure::none && (response.status == 404 || response.status == 416);
  const bool is_other = is_gone || (response.is_ok() && !is_same(response));
  const bool is_range_asked_for =
      response.received == group.count &&
      is_range(response.field(http::Field::content_range), group.offset, group.count, size_bytes_);
  if (response.is_ok() && !is_other && is_range_asked_for)
    return true;
  if (response.is_ok() && !is_other)
    nbdkit_error("the store did not send the requested range of the object %s", key.c_str());
  else if (!is_other)
    nbdkit_error("%s",
                 store_.problem(response, "cannot read the object " + key, key).sentence.c_str());
  else if (!has_told_of_change_.exchange(true, std::memory_order_relaxed)) // log it only once
    nbdkit_error("the object %s was %s while it was served: start the server again", key.c_str(),
                 is_gone ? "removed or made shorter" : "replaced");
  return false;
}

} // namespace s3
