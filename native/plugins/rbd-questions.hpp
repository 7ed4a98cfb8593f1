// Block status of an image, for which librbd has only a blocking call.
#ifndef ASYNCNBD_RBD_QUESTIONS_HPP
#define ASYNCNBD_RBD_QUESTIONS_HPP

#include <array>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "rbd-deadlines.hpp"
#include "rbd-library.hpp"
#include "rbd-waiting.hpp"

struct nbdkit_extents;

namespace rbd {

/// A client's question which parts of a range have data.
struct Question : Pending {
  nbdkit_extents *extents;
};

class Questions {
public:
  Questions(const Library &library, rbd_image_t image, std::string full_name, Deadlines &deadlines)
      : library_(library), image_(image), full_name_(std::move(full_name)), deadlines_(deadlines) {}
  ~Questions();
  Questions(const Questions &) = delete;
  Questions &operator=(const Questions &) = delete;

  /// 0, or an errno.
  int start();

  /// Like a plugin's asynchronous callbacks: returns 0, or -1 after nbdkit_set_error().
  int ask(const Question &question);

private:
  void drop_overdue();
  void answer_all();
  void answer(Question &question);

  const Library &library_;
  const rbd_image_t image_;
  const std::string full_name_;
  Deadlines &deadlines_;
  uint64_t object_bytes_ = 0;

  std::mutex mutex_;
  Condition changed_;
  std::deque<std::unique_ptr<Question>> waiting_;
  bool is_over_ = false;
  // Several, so that one client with many queries does not keep all others waiting.
  std::array<std::thread, 4> answerers_;
};

} // namespace rbd

#endif
