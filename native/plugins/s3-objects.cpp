// The queues of changes, and the content that they result in. See s3-objects.hpp.
#include "s3-objects.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace s3 {

namespace {

// For the content of objects in batches. A batch has it twice if the store's is not as expected.
constexpr size_t MAX_CONTENT_BYTES = 64 << 20;
constexpr size_t MAX_AT_ONCE = 1024;

// Whether this thread is in start_next(), which must not recurse when a batch finishes at once.
thread_local bool is_starting = false;

} // namespace

size_t Objects::most_at_once() const {
  return std::clamp<size_t>(MAX_CONTENT_BYTES / layout_.object_bytes, 1, MAX_AT_ONCE);
}

std::string Objects::wrong_length(uint64_t number, uint64_t bytes) const {
  if (bytes == layout_.object_bytes)
    return "";
  return "the object " + layout_.name(number) + " has " + std::to_string(bytes) +
         " bytes, but object-size= is " + std::to_string(layout_.object_bytes) +
         ": give the object-size= with which the volume was created";
}

// ---- the queues ---------------------------------------------------------------------------------

void Objects::add(uint64_t number, const Change &change) {
  std::lock_guard lock(mutex_);
  ObjectPtr &object = objects_[number];
  const bool is_new = object == nullptr;
  try {
    if (is_new)
      object = std::make_shared<Object>(number);
    object->waiting.push_back(change);
    if (is_new)
      ready_.push_back(object); // after its first change, because every batch needs one
  } catch (const std::bad_alloc &) {
    if (is_new)
      objects_.erase(number);
    throw;
  }
}

void Objects::change(uint64_t number, const Change &change) {
  add(number, change);
  start_next();
}

void Objects::remove(std::span<const Listed> listed, http::Clock::time_point listed_at,
                     const std::shared_ptr<Parts> &parts) {
  try {
    for (const Listed &one : listed)
      add(one.object, {0, layout_.object_bytes, nullptr, parts, one.etag, listed_at});
  } catch (const std::bad_alloc &) {
    parts->fail(ENOMEM);
  }
  start_next();
}

void Objects::start_next() {
  if (is_starting)
    return;
  is_starting = true;
  do
    while (const ObjectPtr object = take_next())
      begin(object);
  while (send_removals());
  is_starting = false;
}

/// The next object whose batch may begin, or null. Removals need no memory for content.
Objects::ObjectPtr Objects::take_next() {
  std::lock_guard lock(mutex_);
  if (ready_.empty())
    return nullptr;
  const bool is_removal =
      is_whole(ready_.front()->waiting.back()) && ready_.front()->waiting.back().data == nullptr;
  if (!is_removal && busy_ >= most_at_once())
    return nullptr;
  ObjectPtr object = std::move(ready_.front());
  ready_.pop_front();
  object->is_removal = is_removal;
  busy_ += is_removal ? 0 : 1;
  object->batch.swap(object->waiting);
  return object;
}

bool Objects::is_whole(const Change &change) const {
  return change.begin == 0 && change.end == layout_.object_bytes;
}

void Objects::finish(const ObjectPtr &object, int error) {
  std::vector<Change> batch = std::move(object->batch);
  object->batch.clear();
  object->body = {};
  object->content = {};
  object->found = {};
  {
    std::lock_guard lock(mutex_);
    busy_ -= object->is_removal ? 0 : 1;
    if (object->waiting.empty())
      objects_.erase(object->number);
    else
      ready_.push_back(object);
  }
  if (error != 0) {
    for (const Change &change : batch)
      change.parts->fail(error);
  }
  batch.clear(); // this answers the requests
  start_next();
}

// ---- what a batch needs -------------------------------------------------------------------------

void Objects::begin(const ObjectPtr &object) {
  try {
    if (is_stopped())
      return finish(object, EROFS);
    object->first_of_effect = 0;
    for (size_t i = 0; i < object->batch.size(); i++)
      if (is_whole(object->batch[i]))
        object->first_of_effect = i;
    object->version = conditions_.are_used ? versions_.get(object->number) : Version{};
    if (object->is_removal)
      begin_removal(object);
    else
      begin_write(object);
  } catch (const std::bad_alloc &) {
    finish(object, ENOMEM);
  }
}

void Objects::begin_write(const ObjectPtr &object) {
  const Version &version = object->version;
  if (covers_all(*object)) {
    if (conditions_.are_used && version.state == Version::State::unknown)
      return ask_for_version(object);
  } else {
    const bool is_absent = version.state == Version::State::absent;
    if (is_absent && version.is_certain && !has_data(*object))
      return finish(object, 0); // zeroes over zeroes
    if (!is_absent || !has_data(*object))
      return ask_for_content(object);
  }
  apply(object);
  put(object);
}

bool Objects::has_data(const Object &object) {
  return std::any_of(object.batch.begin(), object.batch.end(),
                     [](const Change &change) { return change.data != nullptr; });
}

/// Whether the batch replaces all of the object's earlier content.
bool Objects::covers_all(const Object &object) const {
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  for (const Change &change : object.batch)
    ranges.emplace_back(change.begin, change.end);
  std::sort(ranges.begin(), ranges.end());
  uint32_t covered = 0;
  for (const auto &[begin, end] : ranges) {
    if (begin > covered)
      return false;
    covered = std::max(covered, end);
  }
  return covered == layout_.object_bytes;
}

/// Makes the body to PUT: applies the changes to `content`, or to zeroes if that is empty.
void Objects::apply(const ObjectPtr &object) {
  const Change &first = object->batch[object->first_of_effect];
  const bool is_one = object->first_of_effect + 1 == object->batch.size();
  if (is_one && is_whole(first)) {
    object->body = {first.data, layout_.object_bytes};
    return;
  }
  object->content.resize(layout_.object_bytes);
  for (size_t i = object->first_of_effect; i < object->batch.size(); i++) {
    const Change &change = object->batch[i];
    char *const to = object->content.data() + change.begin;
    if (change.data == nullptr)
      memset(to, 0, change.end - change.begin);
    else
      memcpy(to, change.data, change.end - change.begin);
  }
  object->body = object->content;
}

Version Objects::version_of(const http::Response &response) const {
  const std::string etag = conditions_.etag(response.field(http::Field::etag));
  if (response.status == 404)
    return {Version::State::absent, "", true};
  return etag.empty() ? Version{} : Version{Version::State::present, etag, true};
}

/// Whether the store has the version that this server expects.
bool Objects::is_expected(const Object &object, const Version &found) const {
  const Version &known = object.version;
  return !conditions_.are_used || !known.is_certain ||
         (known.state == found.state && known.etag == found.etag);
}

} // namespace s3
