// The time limit for clients' requests: a request that the cluster has not answered in time fails,
// while librbd goes on with it. (Ceph's own rados_osd_op_timeout is no such limit: when librbd has
// to regain an image's lock, the steps time out one after the other, and all requests wait.)
#ifndef ASYNCNBD_RBD_DEADLINES_HPP
#define ASYNCNBD_RBD_DEADLINES_HPP

#include <cstdint>
#include <ctime>
#include <list>
#include <mutex>
#include <string>

namespace rbd {

/// A client's request that librbd has, or is about to get.
struct Pending {
  void *conn;
  uint64_t reqid;
  uint64_t offset;
  uint32_t count;
  bool changes_data;
  uint32_t held_bytes = 0; // of data, which librbd keeps until the request is done

  // From begin() to end(), guarded by the mutex of Deadlines.
  int64_t due_ns = 0;
  bool is_overdue = false; // its client has been answered
  bool librbd_has_it = true;
  std::list<Pending *>::iterator place = {};
};

/// The deadlines of one image's requests. Any thread may call any function.
class Deadlines {
public:
  /// `limit_seconds` 0: there is no limit, and nothing is ever overdue.
  Deadlines(std::string full_name, unsigned limit_seconds)
      : full_name_(std::move(full_name)), limit_seconds_(limit_seconds) {}

  bool are_set() const { return limit_seconds_ != 0; }

  /// Call it before librbd gets the request. Returns 0, or, after nbdkit_error(), the errno with
  /// which it must fail now. librbd may still carry out overdue requests: so a request that
  /// overlaps an overdue write fails, and every request fails while too many are overdue.
  int begin(Pending &pending);

  /// For a request that began with `librbd_has_it` false: call it before librbd gets it. True: the
  /// client still waits for the answer. False: librbd must not get the request; call end().
  bool hand_over(Pending &pending);

  /// Call it when librbd is done with the request, or has refused it. True: the client still waits,
  /// and the caller must answer it. From then on only the caller uses `pending`.
  bool end(Pending &pending);

  bool is_overdue(const Pending &pending);

  /// Fails the requests that are due. Returns when to call it again, by CLOCK_MONOTONIC.
  timespec expire();

private:
  bool expire_one(int64_t now);
  const char *obstacle(const Pending &pending) const;

  const std::string full_name_;
  const unsigned limit_seconds_;
  std::mutex mutex_;
  std::list<Pending *> due_; // the first to be due comes first
  std::list<Pending *> overdue_;
  uint64_t overdue_bytes_ = 0;
};

} // namespace rbd

#endif
