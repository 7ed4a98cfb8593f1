// See rbd-open-images.hpp.
#include "rbd-open-images.hpp"

namespace rbd {

bool Shared::enter(const Cluster &cluster, const std::string &name, const std::string &snapshot,
                   bool is_readonly) {
  std::lock_guard lock(mutex_);
  if (image_ == nullptr)
    image_ = Image::open(cluster, name, snapshot, is_readonly);
  if (image_ == nullptr)
    return false;
  users_++;
  return true;
}

void Shared::leave() {
  std::lock_guard lock(mutex_);
  if (--users_ == 0)
    image_.reset();
}

std::shared_ptr<Shared> OpenImages::of(const std::string &key) {
  std::lock_guard lock(mutex_);
  std::erase_if(images_, [](const auto &one) { return one.second.expired(); });
  std::weak_ptr<Shared> &place = images_[key];
  std::shared_ptr<Shared> shared = place.lock();
  if (shared == nullptr)
    place = shared = std::make_shared<Shared>();
  return shared;
}

std::optional<Use> OpenImages::open(const Cluster &cluster, const std::string &name,
                                    const std::string &snapshot, bool is_readonly) {
  auto shared = of((is_readonly ? "r " : "w ") + name + "@" + snapshot);
  if (!shared->enter(cluster, name, snapshot, is_readonly))
    return std::nullopt;
  return Use(std::move(shared));
}

} // namespace rbd
