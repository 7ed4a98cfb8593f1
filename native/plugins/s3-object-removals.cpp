// The requests that remove objects, one at a time or together. See s3-objects.hpp.
#include "s3-objects.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "s3-removals.hpp"

namespace s3 {

namespace {

// An older list does not show reliably what the store has now.
constexpr std::chrono::seconds LIST_IS_FRESH{2};

bool is_known(const Version &version) {
  return version.is_certain && version.state == Version::State::present;
}

// Until the store has answered such a request: some stores answer unknown requests with a 500.
constexpr unsigned ATTEMPTS_BEFORE_ANY = 2;

} // namespace

void Objects::attempt(const ObjectPtr &object, void (Objects::*work)(const ObjectPtr &)) {
  try {
    (this->*work)(object);
  } catch (const std::bad_alloc &) {
    finish(object, ENOMEM);
  }
}

void Objects::begin_removal(const ObjectPtr &object) {
  const Version &version = object->version;
  if (version.is_certain && version.state == Version::State::absent)
    return finish(object, 0);
  // Few stores honour conditions of deletes. With others, the object is checked shortly before.
  if (is_known(version) && !conditions_.guard_deletes && !was_just_listed(*object))
    return check_removed(object);
  remove_soon(object);
}

/// Whether a recent list has the expected version. If it has another, that may be a later one of
/// our own, so the store is asked again.
bool Objects::was_just_listed(const Object &object) const {
  const Change &change = object.batch.back();
  return !change.listed_etag.empty() &&
         conditions_.etag(change.listed_etag) == object.version.etag &&
         http::Clock::now() - change.listed_at < LIST_IS_FRESH;
}

void Objects::check_removed(const ObjectPtr &object) {
  http::Request request = store_.object(http::Method::head, layout_.name(object->number));
  submit(std::move(request), object, &Objects::take_checked);
}

void Objects::take_checked(const ObjectPtr &object, const http::Response &response) {
  if (!Store::is_missing_to_head(response) && !response.is_ok())
    return fail(object, response, "check");
  if (!is_expected(*object, version_of(response)))
    return stop_writing(object);
  remove_soon(object);
}

// ---- together -----------------------------------------------------------------------------------

/// Removes the object together with all others that are about to be removed.
void Objects::remove_soon(const ObjectPtr &object) {
  {
    std::lock_guard lock(mutex_);
    removals_.push_back(object);
  }
  start_next();
}

/// False: there is nothing to remove.
bool Objects::send_removals() {
  std::vector<ObjectPtr> objects;
  {
    std::lock_guard lock(mutex_);
    objects.swap(removals_);
  }
  size_t alone = static_cast<size_t>(
      std::partition(objects.begin(), objects.end(),
                     [this](const ObjectPtr &object) { return !can_join(*object); }) -
      objects.begin());
  if (objects.size() - alone == 1)
    alone++;
  for (size_t i = 0; i < alone; i++)
    attempt(objects[i], &Objects::remove_alone);
  for (size_t i = alone; i < objects.size(); i += MOST_REMOVALS)
    remove_together(std::span(objects).subspan(i, std::min(objects.size() - i, MOST_REMOVALS)));
  return !objects.empty();
}

/// Whether the object may be removed together with others: not if the store honours the condition
/// only in a request for one object.
bool Objects::can_join(const Object &object) const {
  return removes_many_.load(std::memory_order_acquire) &&
         (!is_known(object.version) || !conditions_.guard_deletes || conditions_.guard_batches);
}

/// The ETag that the object must have to be removed with others, or "". The ETag from the list, if
/// no other is known, protects what is written after the list.
std::string Objects::guard_of(const Object &object) const {
  if (!conditions_.guard_batches)
    return "";
  return is_known(object.version) ? object.version.etag
                                  : conditions_.etag(object.batch.back().listed_etag);
}

/// Whether the store does not support DeleteObjects, or does not allow it.
bool Objects::is_refusal(const http::Response &response) const {
  if (response.failure != http::Failure::none || response.is_ok())
    return false;
  return response.status / 100 == 4 || response.status == 501 ||
         !has_removed_many_.load(std::memory_order_acquire);
}

void Objects::remove_together(std::span<const ObjectPtr> objects) {
  try {
    const auto batch = std::make_shared<Removals>();
    std::vector<Removal> removals;
    for (const ObjectPtr &object : objects)
      removals.push_back({layout_.name(object->number), guard_of(*object)});
    batch->document = removals_document(removals);
    batch->objects.assign(objects.begin(), objects.end());
    http::Request request = store_.remove(batch->document);
    if (!has_removed_many_.load(std::memory_order_acquire))
      request.retry.attempts = std::min(request.retry.attempts, ATTEMPTS_BEFORE_ANY);
    request.done = [this, batch](const http::Response &response) {
      try {
        take_removals(*batch, response);
      } catch (const std::bad_alloc &) {
        finish_all(*batch, ENOMEM);
      }
    };
    store_.client().submit(std::move(request));
  } catch (const std::bad_alloc &) {
    for (const ObjectPtr &object : objects)
      finish(object, ENOMEM);
  }
}

void Objects::take_removals(Removals &batch, const http::Response &response) {
  if (is_refusal(response))
    removes_many_.store(false, std::memory_order_release);
  else if (!response.is_ok())
    return fail_all(batch, response);
  // No results after a refusal.
  const std::map<std::string, Removed> results = removals_in(response.text);
  if (response.is_ok() && !results.empty())
    has_removed_many_.store(true, std::memory_order_release);
  while (!batch.objects.empty()) {
    const ObjectPtr object = std::move(batch.objects.back());
    batch.objects.pop_back();
    const auto found = results.find(layout_.name(object->number));
    const Removed how = found == results.end() ? Removed::failed : found->second;
    // What has failed is tried again alone, and then the answer says more. So is an object that has
    // another version than the list: a write of our own, whose answer was lost, may be the reason.
    attempt(object, how == Removed::yes ? &Objects::finish_removed
                    : how == Removed::refused && is_known(object->version)
                        ? &Objects::check_gone
                        : &Objects::remove_alone);
  }
}

void Objects::fail_all(Removals &batch, const http::Response &response) {
  const Problem problem =
      store_.problem(response, "cannot remove " + std::to_string(batch.objects.size()) +
                                   " objects of " + layout_.prefix);
  nbdkit_error("%s", problem.sentence.c_str());
  for (const ObjectPtr &object : batch.objects)
    versions_.forget(object->number); // the object may have been removed anyway
  finish_all(batch, problem.error);
}

void Objects::finish_all(Removals &batch, int error) {
  for (const ObjectPtr &object : std::exchange(batch.objects, {}))
    finish(object, error);
}

void Objects::finish_removed(const ObjectPtr &object) {
  versions_.set_absent(object->number);
  finish(object, 0);
}

// ---- alone --------------------------------------------------------------------------------------

void Objects::remove_alone(const ObjectPtr &object) {
  http::Request request = store_.object(http::Method::del, layout_.name(object->number));
  if (conditions_.guard_deletes && object->version.is_certain)
    request.headers.push_back(conditions_.header(object->version));
  submit(std::move(request), object, &Objects::take_removal);
}

void Objects::take_removal(const ObjectPtr &object, const http::Response &response) {
  if (response.is_ok() || Store::is_missing(response))
    return finish_removed(object);
  if (response.failure == http::Failure::none && response.status == 412)
    return check_gone(object);
  versions_.forget(object->number);
  fail(object, response, "remove");
}

/// A condition has failed. If the object is gone, an attempt whose answer was lost has removed it.
void Objects::check_gone(const ObjectPtr &object) {
  versions_.forget(object->number);
  http::Request request = store_.object(http::Method::head, layout_.name(object->number));
  submit(std::move(request), object, &Objects::take_gone);
}

void Objects::take_gone(const ObjectPtr &object, const http::Response &response) {
  if (Store::is_missing_to_head(response))
    return finish_removed(object);
  if (!response.is_ok())
    return fail(object, response, "check");
  stop_writing(object);
}

} // namespace s3
