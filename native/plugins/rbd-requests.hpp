// The requests of an image that librbd carries out, and the thread that answers them.
#ifndef ASYNCNBD_RBD_REQUESTS_HPP
#define ASYNCNBD_RBD_REQUESTS_HPP

#include <atomic>
#include <ctime>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "rbd-deadlines.hpp"
#include "rbd-library.hpp"
#include "rbd-waiting.hpp"

namespace rbd {

class Requests;

/// A request that librbd carries out.
struct Task : Pending {
  Requests *owner;
  char *read_into; // null: not a read
  bool then_flush;
  /// With timeout=, librbd reads into this: when the client has been told an error, the server uses
  /// the buffer of the request for something else.
  std::unique_ptr<char[]> own_memory = nullptr;
  ssize_t result = 0;
  Task *next = nullptr; // in the list of completed tasks
};

/// librbd reports completions on a thread of its own, one at a time. With few in flight, that
/// thread answers them, since waking another would take as long as a small read. With many, a
/// thread of ours answers them together, which takes much less processor time.
class Requests {
public:
  Requests(const Library &library, rbd_image_t image, std::string full_name, Deadlines &deadlines)
      : library_(library), image_(image), full_name_(std::move(full_name)), deadlines_(deadlines) {}
  /// Waits for all requests that librbd has, overdue ones too.
  ~Requests();
  Requests(const Requests &) = delete;
  Requests &operator=(const Requests &) = delete;

  /// 0, or an errno.
  int start();

  // Like a plugin's asynchronous callbacks: return 0, or -1 after nbdkit_set_error().
  int read(void *conn, uint64_t reqid, char *buf, uint32_t count, uint64_t offset);
  int write(void *conn, uint64_t reqid, bool flush, const char *buf, uint32_t count,
            uint64_t offset);
  int discard(void *conn, uint64_t reqid, bool flush, uint32_t count, uint64_t offset);
  int write_zeroes(void *conn, uint64_t reqid, bool flush, uint32_t count, uint64_t offset,
                   bool may_trim);
  int flush(void *conn, uint64_t reqid);

private:
  template <typename Submit>
  int submit(const Pending &pending, char *read_into, bool flush, Submit submit_to);
  int refuse(int result) const;
  Task *make_task(const Pending &pending, char *read_into, bool flush);
  template <typename Submit> int give(Task *task, Submit submit_to);
  static void on_complete(rbd_completion_t completion, void *task) noexcept;
  void completed(Task *task);
  bool flushes_now(Task *task);
  void finish(Task *task);
  void reply(const Task &task);
  void answer_completed();
  bool has_ended();
  Task *take_completed(const timespec &until);
  void finish_all(Task *last);

  const Library &library_;
  const rbd_image_t image_;
  const std::string full_name_;
  Deadlines &deadlines_;
  std::atomic<uint32_t> in_flight_{0};
  std::thread answerer_;

  std::mutex mutex_;
  Condition changed_;
  Task *completed_ = nullptr; // the last one first
  bool is_asleep_ = false;    // the answerer waits for a signal
  bool is_over_ = false;
};

} // namespace rbd

#endif
