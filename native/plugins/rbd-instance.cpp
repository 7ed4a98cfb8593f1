// See rbd-instance.hpp.
#include "rbd-instance.hpp"

#include <utility>

#include "rbd-listing.hpp"

namespace rbd {

namespace {

/// How long end() waits, at most, to clean up after a failed start.
constexpr unsigned END_SECONDS = 5;

} // namespace

// ---- start --------------------------------------------------------------------------------------

bool Instance::configure(const Library &library, Refusal &refusal) {
  configured_ = Cluster::configured(library, settings_, refusal);
  return configured_ != nullptr;
}

bool Instance::connect(Refusal &refusal) {
  struct Answer {
    std::shared_ptr<const Cluster> cluster;
    Refusal refusal;
  };
  std::optional<Answer> answer = Errands().run<Answer>(Patience(settings_->connect_timeout_seconds),
                                                       [cluster = std::move(configured_)] {
                                                         Answer given;
                                                         if (cluster->connect(given.refusal))
                                                           given.cluster = cluster;
                                                         return given;
                                                       });
  if (answer)
    cluster_ = std::move(answer->cluster);
  refusal = answer ? std::move(answer->refusal) : no_monitor(*settings_);
  return cluster_ != nullptr;
}

bool Instance::open_first(Refusal &refusal) {
  struct Answer {
    bool is_open = false;
    std::optional<Use> locked; // the image, if it is to stay locked
    Refusal refusal;
  };
  const Limit limit = settings_->limit_at_start();
  const bool is_readonly = !settings_->create_bytes && !settings_->exclusive;
  std::optional<Answer> answer =
      Errands().run<Answer>(limit.patience(), [cluster = cluster_, images = images_, is_readonly] {
        const Settings &settings = cluster->settings();
        Answer given;
        std::optional<Use> image = images->open(cluster, settings.image, settings.snapshot,
                                                is_readonly, FOR_EVER, given.refusal);
        given.is_open = image.has_value();
        if (settings.exclusive)
          given.locked = std::move(image);
        return given; // an image not in it is closed here, which may wait for the cluster, too
      });
  refusal = answer
                ? std::move(answer->refusal)
                : limit.too_late("cannot open the image " + cluster_->full_name(settings_->image));
  if (!answer || !answer->is_open)
    return false;
  locked_ = std::move(answer->locked);
  return true;
}

bool Instance::start(Refusal &refusal) {
  if (!connect(refusal))
    return false;
  if (!settings_->image.empty())
    return open_first(refusal);
  // A client without the right to list the pool could not open an image of it either.
  return list_images(settings_->limit_at_start(), refusal).has_value();
}

// ---- images -------------------------------------------------------------------------------------

std::optional<std::vector<std::string>> Instance::list_images(const Limit &limit,
                                                              Refusal &refusal) {
  struct Answer {
    std::optional<std::vector<std::string>> names;
    Refusal refusal;
  };
  std::optional<Answer> answer = listings_.run<Answer>(limit.patience(), [cluster = cluster_] {
    Answer given;
    given.names = rbd::list_images(*cluster, given.refusal);
    return given;
  });
  refusal = answer ? std::move(answer->refusal) : limit.too_late(cannot_list(cluster_->settings()));
  return answer ? std::move(answer->names) : std::nullopt;
}

std::optional<Use> Instance::open(const std::string &name, const std::string &snapshot,
                                  bool is_readonly, Refusal &refusal) {
  return images_->open(cluster_, name, snapshot, is_readonly, settings_->limit_to_open(), refusal);
}

// ---- the end ------------------------------------------------------------------------------------

void Instance::drain() {
  locked_.reset();
  images_->wait_until_closed();
}

void Instance::end(std::unique_ptr<Instance> instance) {
  if (instance->cluster_ == nullptr)
    return;
  std::shared_ptr<Instance> held(std::move(instance));
  Errands().run<bool>(Patience(END_SECONDS), [held = std::move(held)]() mutable {
    held.reset();
    return true;
  });
}

} // namespace rbd
