// See s3-volume.hpp.
#include "s3-volume.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "s3-sweep.hpp"
#include "warning.hpp"

namespace s3 {

namespace {

// At the start, all objects in this many pages of 1000 are checked; others when they are used.
constexpr unsigned PAGES_AT_START = 64;
// To remove this many objects or more, those that exist are listed first, with one request.
constexpr uint64_t LIST_FROM = 4;
constexpr unsigned PAGES_OF_STATUS = 4; // clients ask again for the rest

/// Answers a request when all holders of the parts have finished.
template <typename Request> std::shared_ptr<Parts> answer_later(Request given) {
  auto request = std::make_shared<Request>(std::move(given));
  return std::make_shared<Parts>([request](int error) {
    if (error == 0)
      std::move(*request).done();
    else
      std::move(*request).fail(error);
  });
}

/// If memory runs out halfway, the whole request fails.
template <typename Work> void with_parts(const std::shared_ptr<Parts> &parts, Work work) {
  try {
    work();
  } catch (const std::bad_alloc &) {
    parts->fail(ENOMEM);
  }
}

} // namespace

Volume::Volume(Store &store)
    : store_(store), layout_{store.settings().key + "/", *store.settings().size_bytes,
                             static_cast<uint32_t>(*store.settings().object_bytes)},
      objects_(store, layout_), reads_(join_limits(store.settings(), layout_.object_bytes),
                                       [this](Reads::Group group) { send(std::move(group)); }) {}

// ---- start --------------------------------------------------------------------------------------

bool Volume::check_objects(const Listing &listing) const {
  if (!listing.problem.empty()) {
    nbdkit_error("%s", listing.problem.c_str());
    return false;
  }
  for (const Listed &listed : listing.objects) {
    if (listed.object >= layout_.objects()) {
      nbdkit_error("the volume has the object %s, which is past the end that size= gives: size= is "
                   "too small, or object-size= is wrong",
                   layout_.name(listed.object).c_str());
      return false;
    }
    const std::string wrong = objects_.wrong_length(listed.object, listed.bytes);
    if (!wrong.empty()) {
      nbdkit_error("%s", wrong.c_str());
      return false;
    }
  }
  return true;
}

bool Volume::start() {
  const Listing first = list_now(store_, layout_, 0, layout_.objects(), PAGES_AT_START);
  if (!check_objects(first) ||
      !check_objects(list_now(store_, layout_, layout_.objects() - 1, UINT64_MAX, 1)))
    return false;
  const Settings &settings = store_.settings();
  was_empty_ = first.objects.empty() && first.end == layout_.objects();
  if (was_empty_ && settings.is_readonly)
    return refuse_empty();
  if (was_empty_)
    warn_operator(layout_.prefix + ": there are no objects, so the disk is empty");
  if (settings.is_readonly || settings.single_writer)
    return true;
  const std::optional<Conditions> conditions = find_conditions(store_, layout_.prefix);
  if (!conditions)
    return false;
  objects_.use(*conditions);
  for (const Listed &listed : first.objects)
    objects_.versions().hint(listed.object, conditions->etag(listed.etag));
  if (first.end == layout_.objects())
    objects_.versions().others_are_absent();
  return true;
}

// Nobody wants to read an empty disk: key= is probably wrong.
bool Volume::refuse_empty() const {
  nbdkit_error("%s: there are no objects in the bucket \"%s\", so nothing to read: check key=",
               layout_.prefix.c_str(), store_.settings().bucket.c_str());
  return false;
}

bool Volume::open(bool is_readonly) {
  if (!is_readonly || !was_empty_)
    return true;
  const Listing listing = list_now(store_, layout_, 0, layout_.objects(), 1);
  was_empty_ = listing.problem.empty() && listing.objects.empty();
  return !was_empty_ || refuse_empty();
}

nbdkit::BlockSize Volume::block_size() const {
  const bool is_power = std::has_single_bit(layout_.object_bytes) && layout_.object_bytes >= 512;
  return {1, is_power ? std::min<uint32_t>(layout_.object_bytes, 32 << 20) : 4096, UINT32_MAX};
}

// ---- requests -----------------------------------------------------------------------------------

template <typename Each> void Volume::for_pieces(uint64_t offset, uint64_t count, Each each) const {
  uint64_t done = 0;
  while (done < count) {
    const uint64_t at = offset + done;
    const auto begin = static_cast<uint32_t>(at % layout_.object_bytes);
    const auto length =
        static_cast<uint32_t>(std::min<uint64_t>(count - done, layout_.object_bytes - begin));
    each(Piece{at / layout_.object_bytes, begin, begin + length, static_cast<uint32_t>(done)});
    done += length;
  }
}

void Volume::read(nbdkit::ReadRequest request) {
  const uint64_t offset = request.offset();
  const uint32_t count = request.count();
  char *const buffer = reinterpret_cast<char *>(request.buffer().data());
  const PartsPtr parts = answer_later(std::move(request));
  with_parts(parts, [&] {
    for_pieces(offset, count, [&](const Piece &piece) {
      const uint32_t length = piece.end - piece.begin;
      reads_.add(store_.client(), offset + piece.done, length,
                 PieceRead({buffer + piece.done, length}, parts));
    });
  });
}

void Volume::send(Reads::Group given) {
  const auto group = std::make_shared<Reads::Group>(std::move(given));
  http::Request request =
      store_.object(http::Method::get, layout_.name(group->offset / layout_.object_bytes));
  request.range = http::Range{group->offset % layout_.object_bytes, group->count};
  for (const PieceRead &read : group->reads)
    request.into.push_back(read.buffer());
  request.retry.deadline_ms = http::left_ms(request.retry.deadline_ms, group->since);
  request.done = [this, group](const http::Response &response) {
    const int error = error_of(*group, response);
    for (PieceRead &read : group->reads) {
      if (error == 0 && response.status == 404)
        std::fill(read.buffer().begin(), read.buffer().end(), 0);
      read.finish(error);
    }
    reads_.is_over();
  };
  store_.client().submit(std::move(request));
}

/// 0 if the bytes are right, or if the object does not exist, which means zeroes. Otherwise an
/// errno, and the log says why.
int Volume::error_of(const Reads::Group &group, const http::Response &response) const {
  if (Store::is_missing(response))
    return 0;
  const uint64_t object = group.offset / layout_.object_bytes;
  const std::string name = layout_.name(object);
  const std::string &range = response.field(http::Field::content_range);
  const std::optional<uint64_t> total = total_of(range);
  if ((response.is_ok() || response.status == 416) && total && *total != layout_.object_bytes) {
    nbdkit_error("%s", objects_.wrong_length(object, *total).c_str());
    return EIO;
  }
  if (!response.is_ok()) {
    const Problem problem = store_.problem(response, "cannot read the object " + name, name);
    nbdkit_error("%s", problem.sentence.c_str());
    return problem.error;
  }
  if (response.status != 206 || response.received != group.count ||
      !is_range(range, group.offset % layout_.object_bytes, group.count, layout_.object_bytes)) {
    nbdkit_error("the store did not send the requested range of the object %s", name.c_str());
    return EIO;
  }
  return 0;
}

void Volume::change_pieces(uint64_t offset, uint64_t count, const char *data,
                           const PartsPtr &parts) {
  for_pieces(offset, count, [&](const Piece &piece) {
    objects_.change(piece.object,
                    {piece.begin, piece.end, data == nullptr ? nullptr : data + piece.done, parts});
  });
}

void Volume::write(nbdkit::WriteRequest request) {
  const uint64_t offset = request.offset();
  const uint32_t count = request.count();
  const char *const data = reinterpret_cast<const char *>(request.data().data());
  const PartsPtr parts = answer_later(std::move(request));
  with_parts(parts, [&] { change_pieces(offset, count, data, parts); });
}

// ---- zeroes: objects that do not exist ----------------------------------------------------------

void Volume::remove_whole(uint64_t first, uint64_t end, const PartsPtr &parts) {
  if (end - first >= LIST_FROM)
    return sweep(store_, layout_, objects_, first, end, parts);
  for (uint64_t object = first; object < end; object++)
    objects_.change(object, {0, layout_.object_bytes, nullptr, parts});
}

void Volume::trim(nbdkit::TrimRequest request) {
  const uint64_t bytes = layout_.object_bytes;
  const uint64_t first = (request.offset() + bytes - 1) / bytes;
  const uint64_t end = (request.offset() + request.count()) / bytes;
  const PartsPtr parts = answer_later(std::move(request));
  if (first < end) // trimming a part of an object would free nothing
    with_parts(parts, [&] { remove_whole(first, end, parts); });
}

void Volume::zero(nbdkit::ZeroRequest request) {
  const uint64_t bytes = layout_.object_bytes;
  const uint64_t begin = request.offset();
  const uint64_t end = begin + request.count();
  const uint64_t first = (begin + bytes - 1) / bytes;
  const uint64_t last = end / bytes;
  if (request.has(nbdkit::Flag::fast_zero) && (begin % bytes != 0 || end % bytes != 0)) {
    std::move(request).fail(ENOTSUP);
    return;
  }
  const PartsPtr parts = answer_later(std::move(request));
  with_parts(parts, [&] {
    if (first > last) // inside one object
      return change_pieces(begin, end - begin, nullptr, parts);
    change_pieces(begin, first * bytes - begin, nullptr, parts);
    if (first < last)
      remove_whole(first, last, parts);
    change_pieces(last * bytes, end - last * bytes, nullptr, parts);
  });
}

// ---- block status -------------------------------------------------------------------------------

void Volume::extents(nbdkit::ExtentsRequest given) {
  const uint64_t first = given.offset() / layout_.object_bytes;
  const uint64_t end =
      (given.offset() + given.count() + layout_.object_bytes - 1) / layout_.object_bytes;
  const unsigned pages = given.has(nbdkit::Flag::req_one) ? 1 : PAGES_OF_STATUS;
  auto request = std::make_shared<nbdkit::ExtentsRequest>(std::move(given));
  list_objects(store_, layout_, first, end, pages, [this, request](const Listing &listing) {
    tell_extents(std::move(*request), listing);
  });
}

void Volume::tell_extents(nbdkit::ExtentsRequest request, const Listing &listing) {
  if (!listing.problem.empty()) {
    nbdkit_error("%s", listing.problem.c_str());
    std::move(request).fail(listing.error);
    return;
  }
  const auto tell_until = [&](uint64_t object, nbdkit::Extent extent) {
    const uint64_t at = object * layout_.object_bytes;
    if (at > request.next())
      request.add(at - request.next(), extent);
  };
  try {
    for (const Listed &listed : listing.objects) {
      tell_until(listed.object, nbdkit::Extent::hole_zero);
      tell_until(listed.object + 1, nbdkit::Extent::data);
    }
    tell_until(listing.end, nbdkit::Extent::hole_zero);
    std::move(request).done();
  } catch (...) {
    std::move(request).fail(std::current_exception());
  }
}

} // namespace s3
