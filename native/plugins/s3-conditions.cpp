// See s3-conditions.hpp.
#include "s3-conditions.hpp"

#include <random>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace s3 {

std::string Conditions::etag(const std::string &sent) const {
  if (quotes_etags || sent.size() < 2 || sent.front() != '"' || sent.back() != '"')
    return sent;
  return sent.substr(1, sent.size() - 2);
}

namespace {

constexpr const char *WRONG_ETAG = "00000000000000000000000000000000";

/// 16 random digits, after a letter that sorts after all of a volume's objects.
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
    // An object that is left behind is harmless, and its name shows what it is.
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
    return response;
  }
  static bool is_refused(const http::Response &response) {
    return response.failure == http::Failure::none && response.status == 412;
  }
  std::optional<Conditions> refuse(const http::Response &response) {
    if (response.failure == http::Failure::none && is_unknown(response))
      return no_conditions();
    nbdkit_error(
        "%s",
        store_.problem(response, "cannot write the volume (read-only=true would only read it)")
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
                 "writes this volume");
    return std::nullopt;
  }

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

  static constexpr std::string_view CONTENT = "asyncnbd";
  Store &store_;
  const std::string name_;
  std::optional<http::Response> failed_;
};

} // namespace

std::optional<Conditions> find_conditions(Store &store, const std::string &prefix) {
  return Probe(store, probe_name(prefix)).run();
}

} // namespace s3
