// How long clients wait for their requests: what the cluster has not answered in time fails, while
// librbd goes on with it. (Ceph's own rados_osd_op_timeout is no such limit: where librbd has to
// get an image's lock back, its steps time out one after the other, with all requests behind them.)
#ifndef ASYNCNBD_RBD_DEADLINES_HPP
#define ASYNCNBD_RBD_DEADLINES_HPP

#include <cstdint>
#include <ctime>
#include <list>
#include <mutex>
#include <string>

namespace rbd {

/// A request of a client's that librbd has, or is to have.
struct Pending {
  void *conn;
  uint64_t reqid;
  uint64_t offset;
  uint32_t count;
  bool changes_data;
  uint32_t held_bytes = 0; // its data, which librbd keeps until it is done

  // Of Deadlines, under its mutex.
  int64_t due_ns = 0;
  bool is_overdue = false; // its client has been answered
  bool librbd_has_it = true;
  std::list<Pending *>::iterator place = {};
};

/// Those of one image. Each function may be called by any thread.
class Deadlines {
public:
  /// 0: there is no limit, and all this does nothing.
  Deadlines(std::string full_name, unsigned limit_seconds)
      : full_name_(std::move(full_name)), limit_seconds_(limit_seconds) {}

  bool are_set() const { return limit_seconds_ != 0; }

  /// Before librbd has it: 0, or the errno with which it must fail now; then nbdkit_error() has
  /// been called. Overdue requests may still be carried out, so nothing passes those that write to
  /// the same place, and there is a limit to them.
  int begin(Pending &pending);

  /// Before librbd has one that has waited since begin(), with `librbd_has_it` false: whether its
  /// client still waits for the answer. If not, it does not count as overdue, and end() is next.
  bool hand_over(Pending &pending);

  /// When librbd is done with it, or has refused it: whether its client still waits for the answer,
  /// which then is for the caller to give. `pending` is nobody else's from then on.
  bool end(Pending &pending);

  bool is_overdue(const Pending &pending);

  /// Fails what is due. Returns until when nothing else will be, by CLOCK_MONOTONIC.
  timespec expire();

private:
  bool expire_one(int64_t now);
  const char *obstacle(const Pending &pending) const;

  const std::string full_name_;
  const unsigned limit_seconds_;
  std::mutex mutex_;
  std::list<Pending *> due_; // the next one first
  std::list<Pending *> overdue_;
  uint64_t overdue_bytes_ = 0;
};

} // namespace rbd

#endif
