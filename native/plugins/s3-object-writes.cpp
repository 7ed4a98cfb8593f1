// The requests that carry out a batch of changes of an object. See s3-objects.hpp.
#include "s3-objects.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace s3 {

void Objects::submit(http::Request request, const ObjectPtr &object, Step next) {
  request.done = [this, object, next](const http::Response &response) {
    try {
      (this->*next)(object, response);
    } catch (const std::bad_alloc &) {
      finish(object, ENOMEM);
    }
  };
  store_.client().submit(std::move(request));
}

void Objects::fail(const ObjectPtr &object, const http::Response &response, const char *what) {
  const std::string name = layout_.name(object->number);
  const Problem problem =
      store_.problem(response, std::string("cannot ") + what + " the object " + name, name);
  nbdkit_error("%s", problem.sentence.c_str());
  finish(object, problem.error);
}

void Objects::fail_length(const ObjectPtr &object, uint64_t bytes) {
  nbdkit_error("%s", wrong_length(object->number, bytes).c_str());
  finish(object, EIO);
}

void Objects::stop_writing(const ObjectPtr &object) {
  if (!is_stopped_.exchange(true, std::memory_order_acq_rel))
    nbdkit_error(
        "another writer has changed the object %s, so nothing more is written to this volume: "
        "stop the other writer, then start this server again",
        layout_.name(object->number).c_str());
  finish(object, EROFS);
}

// ---- the present content ------------------------------------------------------------------------

void Objects::ask_for_content(const ObjectPtr &object) {
  object->content.resize(layout_.object_bytes);
  http::Request request = store_.object(http::Method::get, layout_.name(object->number));
  request.into = {object->content};
  submit(std::move(request), object, &Objects::take_content);
}

void Objects::take_content(const ObjectPtr &object, const http::Response &response) {
  const bool is_absent = Store::is_missing(response);
  if (response.failure == http::Failure::too_long)
    return fail_length(object, layout_.object_bytes + 1);
  if (!is_absent && !response.is_ok())
    return fail(object, response, "read");
  if (!is_absent && response.received != layout_.object_bytes)
    return fail_length(object, response.received);
  const Version found = version_of(response);
  if (!is_expected(*object, found))
    return stop_writing(object);
  object->version = found;
  if (is_absent) {
    std::fill(object->content.begin(), object->content.end(), 0);
    versions_.set_absent(object->number);
    if (!has_data(*object))
      return finish(object, 0);
  }
  apply(object);
  put(object);
}

void Objects::ask_for_version(const ObjectPtr &object) {
  http::Request request = store_.object(http::Method::head, layout_.name(object->number));
  submit(std::move(request), object, &Objects::take_version);
}

void Objects::take_version(const ObjectPtr &object, const http::Response &response) {
  if (!Store::is_missing_to_head(response) && !response.is_ok())
    return fail(object, response, "check");
  const std::string &length = response.field(http::Field::content_length);
  if (response.is_ok() && length != std::to_string(layout_.object_bytes))
    return fail_length(object, strtoull(length.c_str(), nullptr, 10));
  object->version = version_of(response);
  apply(object);
  put(object);
}

// ---- PUT ----------------------------------------------------------------------------------------

void Objects::put(const ObjectPtr &object) {
  http::Request request = store_.put(layout_.name(object->number), object->body);
  if (conditions_.are_used) {
    if (object->version.state == Version::State::unknown) {
      nbdkit_error("the store sent no ETag for the object %s: without one, it cannot be replaced "
                   "safely",
                   layout_.name(object->number).c_str());
      return finish(object, EIO);
    }
    request.headers.push_back(conditions_.header(object->version));
  }
  submit(std::move(request), object, &Objects::take_put);
}

void Objects::take_put(const ObjectPtr &object, const http::Response &response) {
  if (response.is_ok()) {
    if (conditions_.are_used)
      versions_.set_present(object->number, conditions_.etag(response.field(http::Field::etag)));
    return finish(object, 0);
  }
  const bool is_refused =
      response.failure == http::Failure::none &&
      (response.status == 412 ||
       (Store::is_missing(response) && object->version.state == Version::State::present));
  if (conditions_.are_used && is_refused)
    return compare(object);
  versions_.forget(object->number); // the object may have been written anyway
  fail(object, response, "write");
}

/// A condition has failed. If the store has exactly these bytes, an attempt whose answer was lost
/// has written them. The number of attempts is no clue, because libcurl makes some itself.
void Objects::compare(const ObjectPtr &object) {
  object->found.resize(layout_.object_bytes);
  http::Request request = store_.object(http::Method::get, layout_.name(object->number));
  request.into = {object->found};
  submit(std::move(request), object, &Objects::take_found);
}

void Objects::take_found(const ObjectPtr &object, const http::Response &response) {
  const bool is_absent = Store::is_missing(response);
  const bool is_whole = response.is_ok() && response.received == layout_.object_bytes;
  versions_.forget(object->number);
  if (is_whole && memcmp(object->found.data(), object->body.data(), object->body.size()) == 0) {
    versions_.set_present(object->number, conditions_.etag(response.field(http::Field::etag)));
    return finish(object, 0);
  }
  if (object->version.is_certain && (is_absent || response.is_ok()))
    return stop_writing(object);
  if (response.failure == http::Failure::too_long)
    return fail_length(object, layout_.object_bytes + 1);
  if (!is_absent && !response.is_ok())
    return fail(object, response, "read");
  if (!is_absent && !is_whole)
    return fail_length(object, response.received);
  // The version was a wrong guess: try again with the present one.
  object->version = version_of(response);
  object->content = is_absent ? std::vector<char>() : std::move(object->found);
  apply(object);
  put(object);
}

} // namespace s3
