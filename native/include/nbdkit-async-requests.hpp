// The requests that an asynchronous plugin in C++ answers. Include nbdkit-async.hpp.

#ifndef NBDKIT_ASYNC_REQUESTS_HPP
#define NBDKIT_ASYNC_REQUESTS_HPP

#ifndef NBDKIT_ASYNC_HPP
#error "include <nbdkit-async.hpp>, which includes this file"
#endif

namespace nbdkit {

// What all requests have in common. A request has one owner and is answered once: by one of the
// functions that are called on std::move(request), with EIO if it is destroyed before. Any thread
// may do so, at any time; none waits for the client. They return whether the answer is on its way;
// if not, the client has gone, the server has given the request up, or there was an answer already.
class Request {
public:
  Request(Request &&other) noexcept
      : conn_(other.conn_), reqid_(other.reqid_), offset_(other.offset_), count_(other.count_),
        flags_(other.flags_), command_(other.command_),
        is_unanswered_(std::exchange(other.is_unanswered_, false)) {}
  Request &operator=(Request &&other) noexcept {
    if (this == &other)
      return *this;
    drop();
    conn_ = other.conn_;
    reqid_ = other.reqid_;
    offset_ = other.offset_;
    count_ = other.count_;
    flags_ = other.flags_;
    command_ = other.command_;
    is_unanswered_ = std::exchange(other.is_unanswered_, false);
    return *this;
  }
  ~Request() { drop(); }

  // Whether it has to be answered; not if it has been, or has been moved away.
  explicit operator bool() const noexcept { return is_unanswered_; }

  bool has(Flag flag) const noexcept { return (flags_ & static_cast<uint32_t>(flag)) != 0; }

  // The client gets this errno: docs/c-plugins.md says which ones the protocol has.
  bool fail(int error) &&noexcept {
    return take() && nbdkit_async_reply_errno(conn_, reqid_, error) == 0;
  }
  bool fail(const std::error_code &code) &&noexcept {
    return std::move(*this).fail(detail::errno_of(code));
  }
  // The same, logged, as if it had been thrown inside the callback: for threads that catch
  // std::current_exception().
  bool fail(const std::exception_ptr &exception) &&noexcept {
    const int error = detail::guarded(command_, [&] { std::rethrow_exception(exception); });
    return std::move(*this).fail(error);
  }

protected:
  Request(const char *command, void *conn, uint64_t reqid, uint32_t flags, uint32_t count,
          uint64_t offset) noexcept
      : conn_(conn), reqid_(reqid), offset_(offset), count_(count), flags_(flags),
        command_(command), is_unanswered_(true) {}

  // Whether there is an answer to give, which the caller does.
  bool take() noexcept { return std::exchange(is_unanswered_, false); }
  bool reply() noexcept { return take() && nbdkit_async_reply(conn_, reqid_) == 0; }

  void *conn() const noexcept { return conn_; }
  uint64_t reqid() const noexcept { return reqid_; }
  uint64_t offset_bytes() const noexcept { return offset_; }
  uint32_t count_bytes() const noexcept { return count_; }

private:
  void drop() noexcept {
    if (!take())
      return;
    detail::Call *call = detail::current_call;
    if (call != nullptr && call->conn == conn_ && call->reqid == reqid_) {
      call->is_dropped = true;
      return;
    }
    nbdkit_error("a request (%s, offset %" PRIu64 ", count %" PRIu32 ") was dropped without an "
                 "answer: the client gets EIO",
                 command_, offset_, count_);
    nbdkit_async_reply_errno(conn_, reqid_, EIO);
  }

  void *conn_;
  uint64_t reqid_;
  uint64_t offset_;
  uint32_t count_;
  uint32_t flags_;
  const char *command_;
  bool is_unanswered_;
};

// A request about [offset, offset + count), which is not empty and lies inside the export.
class RangeRequest : public Request {
public:
  uint64_t offset() const noexcept { return offset_bytes(); }
  uint32_t count() const noexcept { return count_bytes(); }

protected:
  using Request::Request;
};

// Up to 64 MiB.
class ReadRequest : public RangeRequest {
public:
  // To be filled for done(); aligned to 16 bytes, at the same address until the answer. Empty
  // after that, and where the request has been moved away.
  Span<uint8_t> buffer() const noexcept {
    return *this ? Span<uint8_t>(buffer_, count()) : Span<uint8_t>();
  }

  // The data is what buffer() has.
  bool done() &&noexcept { return reply_with(buffer_); }

  // The data are the count() bytes there, which are the plugin's own again on return.
  bool done_from(const void *data) &&noexcept { return reply_with(const_cast<void *>(data)); }

  // The same without a copy: they must not change until release(opaque) has been called, once, on
  // any thread, whatever the result. It must not block.
  bool done_lent(const void *data, void (*release)(void *opaque), void *opaque) &&noexcept {
    if (!take()) {
      release(opaque);
      return false;
    }
    return nbdkit_async_reply_read_lent(conn(), reqid(), count(), data, release, opaque) == 0;
  }

  // The same with anything that can be called without arguments, and is then destroyed: a lambda
  // that holds a shared_ptr to the data. Throws std::bad_alloc, with the request unanswered.
  template <class F> bool done_lent(const void *data, F &&release) && {
    using Callable = std::decay_t<F>;
    auto owned = std::make_unique<Callable>(std::forward<F>(release));
    return std::move(*this).done_lent(
        data,
        [](void *opaque) {
          const std::unique_ptr<Callable> callable(static_cast<Callable *>(opaque));
          detail::guarded("release", *callable);
        },
        owned.release());
  }

private:
  template <class P> friend struct detail::Callbacks;
  ReadRequest(void *conn, uint64_t reqid, uint32_t flags, void *buffer, uint32_t count,
              uint64_t offset) noexcept
      : RangeRequest("read", conn, reqid, flags, count, offset),
        buffer_(static_cast<uint8_t *>(buffer)) {}
  bool reply_with(void *data) noexcept {
    return take() && nbdkit_async_reply_read(conn(), reqid(), count(), data) == 0;
  }

  uint8_t *buffer_;
};

// Up to 64 MiB.
class WriteRequest : public RangeRequest {
public:
  // At the same address until the answer; empty after that.
  Span<const uint8_t> data() const noexcept {
    return *this ? Span<const uint8_t>(data_, count()) : Span<const uint8_t>();
  }
  bool done() &&noexcept { return reply(); }

private:
  template <class P> friend struct detail::Callbacks;
  WriteRequest(void *conn, uint64_t reqid, uint32_t flags, const void *data, uint32_t count,
               uint64_t offset) noexcept
      : RangeRequest("write", conn, reqid, flags, count, offset),
        data_(static_cast<const uint8_t *>(data)) {}

  const uint8_t *data_;
};

// Covers the writes that were answered before it came.
class FlushRequest : public Request {
public:
  bool done() &&noexcept { return reply(); }

private:
  template <class P> friend struct detail::Callbacks;
  FlushRequest(void *conn, uint64_t reqid) noexcept : Request("flush", conn, reqid, 0, 0, 0) {}
};

class TrimRequest : public RangeRequest {
public:
  bool done() &&noexcept { return reply(); }

private:
  template <class P> friend struct detail::Callbacks;
  TrimRequest(void *conn, uint64_t reqid, uint32_t flags, uint32_t count, uint64_t offset) noexcept
      : RangeRequest("trim", conn, reqid, flags, count, offset) {}
};

// fail(ENOTSUP) has the server write zeroes instead, unless the client wants a fast zero.
class ZeroRequest : public RangeRequest {
public:
  bool done() &&noexcept { return reply(); }

private:
  template <class P> friend struct detail::Callbacks;
  ZeroRequest(void *conn, uint64_t reqid, uint32_t flags, uint32_t count, uint64_t offset) noexcept
      : RangeRequest("zero", conn, reqid, flags, count, offset) {}
};

class CacheRequest : public RangeRequest {
public:
  bool done() &&noexcept { return reply(); }

private:
  template <class P> friend struct detail::Callbacks;
  CacheRequest(void *conn, uint64_t reqid, uint32_t count, uint64_t offset) noexcept
      : RangeRequest("cache", conn, reqid, 0, count, offset) {}
};

class ExtentsRequest : public RangeRequest {
public:
  // The next `length` bytes: the first extent begins at offset(), each further one where the one
  // before ends. They may go past the range. One thread at a time. Throws std::system_error.
  ExtentsRequest &add(uint64_t length, Extent extent) {
    if (!*this)
      throw std::logic_error("add: the request has been answered");
    if (nbdkit_add_extent(extents_, next_, length, static_cast<uint32_t>(extent)) == -1)
      throw std::system_error(errno, std::generic_category(), "nbdkit_add_extent");
    next_ += length;
    return *this;
  }

  // Where the next one begins.
  uint64_t next() const noexcept { return next_; }

  bool done() &&noexcept { return reply(); }

private:
  template <class P> friend struct detail::Callbacks;
  ExtentsRequest(void *conn, uint64_t reqid, uint32_t flags, uint32_t count, uint64_t offset,
                 struct nbdkit_extents *extents) noexcept
      : RangeRequest("extents", conn, reqid, flags, count, offset), extents_(extents),
        next_(offset) {}

  struct nbdkit_extents *extents_;
  uint64_t next_;
};

} // namespace nbdkit

#endif // NBDKIT_ASYNC_REQUESTS_HPP
