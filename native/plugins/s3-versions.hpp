// The version of each object that this server expects in the store. That is the condition of its
// writes.
#ifndef ASYNCNBD_S3_VERSIONS_HPP
#define ASYNCNBD_S3_VERSIONS_HPP

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace s3 {

struct Version {
  enum class State { unknown, absent, present };
  State state = State::unknown;
  std::string etag; // in the form for conditions
  /// It comes from an answer about this object itself, so if the store later has another version,
  /// there is another writer. A list only gives a hint, which a condition may prove wrong.
  bool is_certain = false;
};

/// Remembers a limited number of versions: the store is asked again about forgotten objects.
class Versions {
public:
  Version get(uint64_t object) const {
    std::lock_guard lock(mutex_);
    const auto found = versions_.find(object);
    return found == versions_.end() ? Version{unlisted_, "", false} : found->second;
  }
  void set(uint64_t object, Version version) {
    std::lock_guard lock(mutex_);
    if (versions_.size() >= MOST && !versions_.contains(object))
      versions_.erase(versions_.begin());
    versions_[object] = std::move(version);
  }
  void set_present(uint64_t object, std::string etag) {
    if (etag.empty())
      forget(object);
    else
      set(object, {Version::State::present, std::move(etag), true});
  }
  void set_absent(uint64_t object) { set(object, {Version::State::absent, "", true}); }
  void forget(uint64_t object) { set(object, {}); }
  /// A version from a list. Does not replace what is known.
  void hint(uint64_t object, std::string etag) {
    std::lock_guard lock(mutex_);
    if (versions_.size() < MOST)
      versions_.try_emplace(object, Version{Version::State::present, std::move(etag), false});
  }
  /// Call it when hint() was called for all objects that exist.
  void others_are_absent() { unlisted_ = Version::State::absent; }

private:
  static constexpr size_t MOST = 262'144; // about 40 MB
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, Version> versions_;
  Version::State unlisted_ = Version::State::unknown; // before any requests
};

} // namespace s3

#endif
