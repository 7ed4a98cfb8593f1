// An open image, its requests, and the threads that serve them.
#ifndef ASYNCNBD_RBD_IMAGE_HPP
#define ASYNCNBD_RBD_IMAGE_HPP

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <string>
#include <thread>
#include <vector>

#include "rbd-cluster.hpp"

struct nbdkit_extents;

namespace rbd {

/// A request that librbd carries out.
struct Task {
  void *conn;
  uint64_t reqid;
  char *read_into; // null: not a read
  uint32_t count;
  bool then_flush;
};

/// A query for which librbd has only a blocking call.
struct Question {
  void *conn;
  uint64_t reqid;
  uint64_t offset;
  uint32_t count;
  nbdkit_extents *extents;
};

class Image {
public:
  /// Null on failure, after nbdkit_error() and nbdkit_set_error(). Waits for the cluster.
  static std::unique_ptr<Image> open(const Cluster &cluster, const std::string &name,
                                     const std::string &snapshot, bool is_readonly);
  ~Image();
  Image(const Image &) = delete;
  Image &operator=(const Image &) = delete;

  /// The present size: another client may have resized the image. -1 on failure, after
  /// nbdkit_error().
  int64_t size_bytes() const;

  // Like a plugin's asynchronous callbacks: return 0, or -1 after nbdkit_set_error().
  int read(void *conn, uint64_t reqid, char *buf, uint32_t count, uint64_t offset);
  int write(void *conn, uint64_t reqid, bool flush, const char *buf, uint32_t count,
            uint64_t offset);
  int discard(void *conn, uint64_t reqid, bool flush, uint32_t count, uint64_t offset);
  int write_zeroes(void *conn, uint64_t reqid, bool flush, uint32_t count, uint64_t offset,
                   bool may_trim);
  int flush(void *conn, uint64_t reqid);
  int block_status(const Question &question);

private:
  Image(const Library &library, std::string full_name)
      : library_(library), full_name_(std::move(full_name)) {}
  bool start();
  bool unlock_luks(const Settings &settings);
  template <typename Submit> int submit(const Task &task, Submit submit_to);
  void reap();
  void reap_batch();
  void finish(rbd_completion_t completion);
  void reply(const Task &task, ssize_t result);
  void answer_questions();
  int answer(const Question &question) const;

  const Library &library_;
  const std::string full_name_;
  rbd_image_t image_ = nullptr;
  uint64_t object_bytes_ = 0;
  int event_fd_ = -1;
  std::atomic<uint32_t> in_flight_{0};
  std::atomic<bool> is_over_{false};
  std::thread reaper_;

  std::mutex mutex_;
  // The C++ one needs a libstdc++ that is too new for some systems.
  pthread_cond_t changed_ = PTHREAD_COND_INITIALIZER;
  std::deque<Question> questions_;
  bool is_closing_ = false;
  // Several, so that one client with many queries does not keep all others waiting.
  std::array<std::thread, 4> answerers_;
};

} // namespace rbd

#endif
