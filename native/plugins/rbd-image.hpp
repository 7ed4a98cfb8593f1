// An open image: its librbd handle, and what carries out its clients' requests.
#ifndef ASYNCNBD_RBD_IMAGE_HPP
#define ASYNCNBD_RBD_IMAGE_HPP

#include <memory>
#include <optional>
#include <string>

#include "rbd-cluster.hpp"
#include "rbd-deadlines.hpp"
#include "rbd-questions.hpp"
#include "rbd-requests.hpp"

namespace rbd {

class Image {
public:
  /// Null on failure: see `refusal`. Waits for the cluster.
  static std::unique_ptr<Image> open(const Cluster &cluster, const std::string &name,
                                     const std::string &snapshot, bool is_readonly,
                                     Refusal &refusal);
  /// Waits for the cluster, too, because librbd does.
  ~Image();
  Image(const Image &) = delete;
  Image &operator=(const Image &) = delete;

  /// The present size: another client may have resized the image. -1 on failure: see `refusal`.
  /// Waits for the cluster if librbd was notified of a change.
  int64_t size_bytes(Refusal &refusal) const;

  Requests &requests() { return *requests_; }
  Questions &questions() { return *questions_; }

private:
  Image(const Library &library, rbd_image_t image, std::string full_name, unsigned timeout_seconds)
      : library_(library), image_(image), full_name_(std::move(full_name)),
        deadlines_(full_name_, timeout_seconds) {}
  bool start(Refusal &refusal);
  bool lock(Refusal &refusal);

  const Library &library_;
  const rbd_image_t image_;
  const std::string full_name_;
  Deadlines deadlines_;
  std::optional<Requests> requests_;
  std::optional<Questions> questions_;
};

} // namespace rbd

#endif
