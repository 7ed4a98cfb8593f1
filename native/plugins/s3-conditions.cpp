// See s3-conditions.hpp.
#include "s3-conditions.hpp"

#include <random>
#include <span>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "s3-removals.hpp"

namespace s3 {

std::string Conditions::etag(const std::string &sent) const {
  if (quotes_etags || sent.size() < 2 || sent.front() != '"' || sent.back() != '"')
    return sent;
  return sent.substr(1, sent.size() - 2);
}

namespace {

constexpr const char *WRONG_ETAG = "00000000000000000000000000000000";

/// "PREFIXprobe-" and 16 random digits: a name that sorts after all of a volume's objects.
std::string probe_name(const std::string &prefix) {
  std::random_device random;
  std::string name = prefix + "probe-";
  for (int i = 0; i < 16; i++)
    name += "0123456789abcdef"[random() & 15];
  return name;
}

class Probe {
public:
  Probe(Store &store, std::string name) : store_(store), name_(std::move(name)) {}

  std::optional<Conditions> run() {
    http::Response made = put("If-None-Match: *");
    if (!made.is_ok())
      return refuse(made);
    std::optional<Conditions> found = try_out(made.field(http::Field::etag));
    if (found)
      try_removals(*found);
    // If this fails, the object that is left behind is harmless, and its name shows what it is.
    store_.client().perform(store_.object(http::Method::del, name_));
    return found;
  }

private:
  http::Response put(const std::string &condition) {
    http::Request request = store_.put(name_, std::span(CONTENT.data(), CONTENT.size()));
    request.headers.push_back(condition);
    // A second attempt would find the first one's object.
    request.retry.again = http::Again::unsent;
    http::Response response = store_.client().perform(std::move(request));
    if (response.failure != http::Failure::none || response.status >= 500)
      failed_ = response;
    if (response.is_ok())
      etag_ = response.field(http::Field::etag);
    return response;
  }
  static bool is_refused(const http::Response &response) {
    return response.failure == http::Failure::none && response.status == 412;
  }
  std::optional<Conditions> refuse(const http::Response &response) {
    if (response.failure == http::Failure::none && is_unknown(response))
      return no_conditions();
    nbdkit_error(
        "%s", store_.problem(response, "cannot write to the volume (read-only=true only reads it)")
                  .sentence.c_str());
    return std::nullopt;
  }
  static bool is_unknown(const http::Response &response) {
    return response.status == 501 || Store::code_of(response) == "NotImplemented";
  }
  std::optional<Conditions> no_conditions() {
    if (failed_ && !is_unknown(*failed_))
      return refuse(*failed_); // not because of the condition
    nbdkit_error("this store does not honour If-Match and If-None-Match, which keep two servers "
                 "from destroying each other's writes: give single-writer=true if no other server "
                 "writes to this volume");
    return std::nullopt;
  }

  /// Tries conditions of PUT and DELETE. `etag` is the object's, as the store has sent it.
  std::optional<Conditions> try_out(const std::string &etag) {
    if (!is_refused(put("If-None-Match: *")))
      return no_conditions();
    Conditions conditions;
    conditions.are_used = true;
    const std::string quoted_wrong = std::string("If-Match: \"") + WRONG_ETAG + "\"";
    if (!is_refused(put(quoted_wrong)))
      return no_conditions();
    if (!put("If-Match: " + etag).is_ok()) {
      conditions.quotes_etags = false;
      const bool is_right = put("If-Match: " + conditions.etag(etag)).is_ok() &&
                            is_refused(put(std::string("If-Match: ") + WRONG_ETAG));
      if (!is_right)
        return no_conditions();
    }
    http::Request removal = store_.object(http::Method::del, name_);
    removal.headers.push_back(conditions.quotes_etags ? quoted_wrong
                                                      : std::string("If-Match: ") + WRONG_ETAG);
    conditions.guard_deletes = is_refused(store_.client().perform(std::move(removal)));
    return conditions;
  }

  /// Removes the object by the request that can remove many.
  Removed remove(const std::string &etag) {
    const Removal removal{name_, etag};
    const std::string document = removals_document(std::span(&removal, 1));
    http::Request request = store_.remove(document);
    request.retry.attempts = 2; // some stores answer unknown requests with a 500
    const http::Response response = store_.client().perform(std::move(request));
    const auto results = removals_in(response.is_ok() ? response.text : "");
    const auto found = results.find(name_);
    return found == results.end() ? Removed::failed : found->second;
  }

  /// Conditions are used only if the right ETag removes the object, too: the store may refuse every
  /// ETag, because it wants another form.
  void try_removals(Conditions &conditions) {
    const Removed with_wrong =
        remove(conditions.quotes_etags ? std::string("\"") + WRONG_ETAG + "\"" : WRONG_ETAG);
    conditions.removes_many = with_wrong != Removed::failed;
    conditions.guard_batches = conditions.guard_deletes && with_wrong == Removed::refused &&
                               remove(conditions.etag(etag_)) == Removed::yes;
  }

  static constexpr std::string_view CONTENT = "asyncnbd";
  Store &store_;
  const std::string name_;
  std::string etag_; // of the object that is there now, as the store has sent it
  std::optional<http::Response> failed_;
};

} // namespace

std::optional<Conditions> find_conditions(Store &store, const std::string &prefix) {
  return Probe(store, probe_name(prefix)).run();
}

} // namespace s3
