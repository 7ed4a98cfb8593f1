// See rbd-image.hpp.
#include "rbd-image.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <new>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

namespace rbd {

namespace {

constexpr int BATCH = 64;

// librbd completes one request at a time. While many are in flight, more are about to complete:
// answering them together delays each a little, and takes much less processor time.
constexpr uint32_t LINGER_FROM = 16;
constexpr long LINGER_NS = 100'000;

// Objects are queried one by one. Clients ask again for the rest.
constexpr uint64_t MAX_STATUS_OBJECTS = 256;

void *fail(int error) {
  nbdkit_set_error(error);
  return nullptr;
}

// The errno for an NBD client.
int client_error(ssize_t result) {
  switch (-result) {
  case EDQUOT:
    return ENOSPC;
  case ETIMEDOUT:
  case ESHUTDOWN: // librbd: another client has fenced this one off
    return EIO;
  default:
    return static_cast<int>(-result);
  }
}

struct Range {
  uint64_t begin;
  uint64_t end;
};

int add_range(uint64_t offset, size_t length, int exists, void *argument) noexcept {
  try {
    if (exists != 0)
      static_cast<std::vector<Range> *>(argument)->push_back({offset, offset + length});
    return 0;
  } catch (const std::bad_alloc &) {
    return -ENOMEM;
  }
}

} // namespace

// ---- open and close ---------------------------------------------------------------------------

namespace {

/// Logs why an image could not be opened.
void explain_open(const Settings &settings, const std::string &full_name,
                  const std::string &snapshot, bool is_readonly, int result) {
  const char *const name = full_name.c_str();
  if (result == -ENOENT && !snapshot.empty())
    nbdkit_error("there is no image %s with a snapshot \"%s\"", name, snapshot.c_str());
  else if (result == -ENOENT)
    nbdkit_error("there is no image %s", name);
  else if (result == -EPERM || result == -EACCES)
    nbdkit_error("the Ceph cluster does not allow client.%s to open %s%s: give it rights on the "
                 "pool (such as osd 'profile rbd pool=%s')%s",
                 settings.id.c_str(), name, is_readonly ? "" : " for writing",
                 settings.pool.c_str(), is_readonly ? "" : ", or serve with -r");
  else
    nbdkit_error("cannot open the image %s: %s", name, strerror(-result));
}

} // namespace

std::unique_ptr<Image> Image::open(const Cluster &cluster, const std::string &name,
                                   const std::string &snapshot, bool is_readonly) {
  const Library &library = cluster.library();
  const Settings &settings = cluster.settings();
  std::unique_ptr<Image> image(new Image(library, cluster.full_name(name)));
  const auto open_it = is_readonly ? library.rbd_open_read_only : library.rbd_open;
  const char *const at = snapshot.empty() ? nullptr : snapshot.c_str();
  int result = open_it(cluster.pool(), name.c_str(), &image->image_, at);
  if (result == -ENOENT && settings.create_bytes && !is_readonly && snapshot.empty()) {
    int order = 0; // 0: from Ceph's configuration
    result = library.rbd_create(cluster.pool(), name.c_str(), *settings.create_bytes, &order);
    if (result >= 0 || result == -EEXIST)
      result = open_it(cluster.pool(), name.c_str(), &image->image_, at);
  }
  if (result < 0) {
    image->image_ = nullptr;
    explain_open(settings, image->full_name_, snapshot, is_readonly, result);
    fail(client_error(result));
    return nullptr;
  }
  if (settings.exclusive && !is_readonly) {
    result = library.rbd_lock_acquire(image->image_, RBD_LOCK_MODE_EXCLUSIVE);
    if (result < 0) {
      nbdkit_error("exclusive=true: cannot lock the image %s: %s", image->full_name_.c_str(),
                   result == -EINVAL                      ? "its feature exclusive-lock is off"
                   : result == -EROFS || result == -EBUSY ? "another client holds its lock"
                                                          : strerror(-result));
      fail(client_error(result));
      return nullptr;
    }
  }
  if ((settings.passphrase && !image->unlock_luks(settings)) || !image->start())
    return nullptr;
  return image;
}

bool Image::unlock_luks(const Settings &settings) {
  if (library_.rbd_encryption_load == nullptr) {
    nbdkit_error("passphrase: this librbd has no LUKS; use version 16 (Pacific) or newer");
    return fail(ENOTSUP) != nullptr;
  }
  luks_options_t options{0, settings.passphrase->data(), settings.passphrase->size()};
  int result = -EINVAL;
  for (int format : {RBD_ENCRYPTION_FORMAT_LUKS2, RBD_ENCRYPTION_FORMAT_LUKS1}) {
    result = library_.rbd_encryption_load(image_, format, &options, sizeof options);
    if (result != -EINVAL)
      break;
  }
  if (result >= 0)
    return true;
  nbdkit_error("the image %s does not open with this passphrase: %s", full_name_.c_str(),
               result == -EPERM    ? "it is wrong"
               : result == -EINVAL ? "the image has no LUKS header"
                                   : strerror(-result));
  return fail(EACCES) != nullptr;
}

bool Image::start() {
  if (library_.rbd_get_stripe_unit(image_, &object_bytes_) < 0 || object_bytes_ == 0)
    object_bytes_ = 4 << 20;
  event_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  int result = event_fd_ == -1
                   ? -errno
                   : library_.rbd_set_image_notification(image_, event_fd_, EVENT_TYPE_EVENTFD);
  if (result < 0) {
    nbdkit_error("cannot get completions of %s: %s", full_name_.c_str(), strerror(-result));
    return fail(-result) != nullptr;
  }
  try {
    reaper_ = std::thread([this] { reap(); });
    for (std::thread &answerer : answerers_)
      answerer = std::thread([this] { answer_questions(); });
  } catch (const std::system_error &error) {
    nbdkit_error("cannot start a thread for %s: %s", full_name_.c_str(), error.what());
    return fail(error.code().value()) != nullptr;
  }
  return true;
}

Image::~Image() {
  {
    std::lock_guard lock(mutex_);
    is_closing_ = true;
  }
  pthread_cond_broadcast(&changed_);
  for (std::thread &answerer : answerers_)
    if (answerer.joinable())
      answerer.join();
  is_over_.store(true, std::memory_order_release);
  if (event_fd_ != -1) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_fd_, &one, sizeof one);
  }
  if (reaper_.joinable())
    reaper_.join();
  if (image_ != nullptr)
    library_.rbd_close(image_);
  if (event_fd_ != -1)
    ::close(event_fd_);
}

int64_t Image::size_bytes() const {
  uint64_t bytes = 0;
  const int result = library_.rbd_get_size(image_, &bytes);
  if (result >= 0)
    return static_cast<int64_t>(bytes);
  nbdkit_error("cannot get the size of %s: %s", full_name_.c_str(), strerror(-result));
  nbdkit_set_error(client_error(result));
  return -1;
}

// ---- requests -----------------------------------------------------------------------------------

template <typename Submit> int Image::submit(const Task &given, Submit submit_to) {
  Task *const task = new (std::nothrow) Task(given);
  rbd_completion_t completion = nullptr;
  int result =
      task == nullptr ? -ENOMEM : library_.rbd_aio_create_completion(task, nullptr, &completion);
  if (result >= 0) {
    in_flight_.fetch_add(1, std::memory_order_relaxed);
    result = submit_to(completion);
    if (result >= 0)
      return 0;
    in_flight_.fetch_sub(1, std::memory_order_relaxed);
    library_.rbd_aio_release(completion);
  }
  delete task;
  nbdkit_error("%s: %s", full_name_.c_str(), strerror(-result));
  nbdkit_set_error(client_error(result));
  return -1;
}

int Image::read(void *conn, uint64_t reqid, char *buf, uint32_t count, uint64_t offset) {
  return submit({conn, reqid, buf, count, false}, [&](rbd_completion_t completion) {
    return library_.rbd_aio_read(image_, offset, count, buf, completion);
  });
}

int Image::write(void *conn, uint64_t reqid, bool flush, const char *buf, uint32_t count,
                 uint64_t offset) {
  return submit({conn, reqid, nullptr, count, flush}, [&](rbd_completion_t completion) {
    return library_.rbd_aio_write(image_, offset, count, buf, completion);
  });
}

int Image::discard(void *conn, uint64_t reqid, bool flush, uint32_t count, uint64_t offset) {
  return submit({conn, reqid, nullptr, count, flush}, [&](rbd_completion_t completion) {
    return library_.rbd_aio_discard(image_, offset, count, completion);
  });
}

int Image::write_zeroes(void *conn, uint64_t reqid, bool flush, uint32_t count, uint64_t offset,
                        bool may_trim) {
  const int zero_flags = may_trim ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION;
  return submit({conn, reqid, nullptr, count, flush}, [&](rbd_completion_t completion) {
    return library_.rbd_aio_write_zeroes(image_, offset, count, completion, zero_flags, 0);
  });
}

int Image::flush(void *conn, uint64_t reqid) {
  return submit({conn, reqid, nullptr, 0, false}, [&](rbd_completion_t completion) {
    return library_.rbd_aio_flush(image_, completion);
  });
}

// ---- completions --------------------------------------------------------------------------------

void Image::reap() {
  pollfd event{event_fd_, POLLIN, 0};
  for (;;) {
    if (is_over_.load(std::memory_order_acquire) && in_flight_.load(std::memory_order_acquire) == 0)
      return;
    ::poll(&event, 1, -1);
    if (in_flight_.load(std::memory_order_relaxed) >= LINGER_FROM) {
      const timespec linger{0, LINGER_NS};
      nanosleep(&linger, nullptr);
    }
    uint64_t count = 0;
    if (::read(event_fd_, &count, sizeof count) == sizeof count)
      reap_batch();
  }
}

void Image::reap_batch() {
  rbd_completion_t completions[BATCH];
  for (;;) {
    const int count = library_.rbd_poll_io_events(image_, completions, BATCH);
    if (count <= 0)
      return;
    nbdkit_async_batch_begin();
    for (int i = 0; i < count; i++)
      finish(completions[i]);
    nbdkit_async_batch_end();
  }
}

void Image::finish(rbd_completion_t completion) {
  Task *const task = static_cast<Task *>(library_.rbd_aio_get_arg(completion));
  const ssize_t result = library_.rbd_aio_get_return_value(completion);
  library_.rbd_aio_release(completion);
  if (result >= 0 && task->then_flush) {
    const int begun = flush(task->conn, task->reqid);
    if (begun == -1)
      nbdkit_async_reply_error(task->conn, task->reqid);
  } else {
    reply(*task, result);
  }
  in_flight_.fetch_sub(1, std::memory_order_release);
  delete task;
}

void Image::reply(const Task &task, ssize_t result) {
  if (result < 0) {
    // An image that may not be written is never opened for writing, so -EROFS means the lock.
    nbdkit_error("%s: %s", full_name_.c_str(),
                 result == -ESHUTDOWN ? "the cluster has fenced this client off; restart the server"
                 : result == -EROFS   ? "another client holds the image's exclusive lock"
                                      : strerror(static_cast<int>(-result)));
    nbdkit_async_reply_errno(task.conn, task.reqid, client_error(result));
  } else if (task.read_into == nullptr) {
    nbdkit_async_reply(task.conn, task.reqid);
  } else {
    // Another client may have shrunk the image; the missing part reads as zeroes.
    const size_t got = std::min<size_t>(static_cast<size_t>(result), task.count);
    memset(task.read_into + got, 0, task.count - got);
    nbdkit_async_reply_read(task.conn, task.reqid, task.count, task.read_into);
  }
}

// ---- block status -------------------------------------------------------------------------------

int Image::block_status(const Question &question) {
  try {
    std::lock_guard lock(mutex_);
    questions_.push_back(question);
  } catch (const std::bad_alloc &) {
    nbdkit_set_error(ENOMEM);
    return -1;
  }
  pthread_cond_signal(&changed_);
  return 0;
}

void Image::answer_questions() {
  std::unique_lock lock(mutex_);
  for (;;) {
    while (!is_closing_ && questions_.empty())
      pthread_cond_wait(&changed_, mutex_.native_handle());
    if (questions_.empty())
      return;
    const Question question = questions_.front();
    questions_.pop_front();
    const bool is_closing = is_closing_;
    lock.unlock();
    const int result = is_closing ? -ESHUTDOWN : answer(question);
    if (result < 0) {
      nbdkit_error("block status of %s: %s", full_name_.c_str(), strerror(-result));
      nbdkit_async_reply_errno(question.conn, question.reqid, client_error(result));
    } else {
      nbdkit_async_reply(question.conn, question.reqid);
    }
    lock.lock();
  }
}

int Image::answer(const Question &question) const {
  const uint64_t most = MAX_STATUS_OBJECTS * object_bytes_;
  const uint64_t end = question.offset + std::min<uint64_t>(question.count, most);
  std::vector<Range> ranges;
  const int result = library_.rbd_diff_iterate2(image_, nullptr, question.offset,
                                                end - question.offset, 1, 0, add_range, &ranges);
  if (result < 0)
    return result;
  std::sort(ranges.begin(), ranges.end(),
            [](const Range &a, const Range &b) { return a.begin < b.begin; });
  uint64_t at = question.offset;
  const auto add = [&](uint64_t to, uint32_t type) {
    if (to <= at)
      return true;
    const int added = nbdkit_add_extent(question.extents, at, to - at, type);
    at = to;
    return added == 0;
  };
  for (const Range &range : ranges)
    if (!add(std::min(range.begin, end), NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) ||
        !add(std::min(range.end, end), 0))
      return -ENOMEM;
  return add(end, NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO) ? 0 : -ENOMEM;
}

} // namespace rbd
