// Asynchronous plugins in C++17 or newer: requests are objects that are answered once, on any
// thread, and exceptions become errors. A plugin is a class, whose members say what it can do:
//
//     #include <nbdkit-async.hpp>
//     class Zeroes {
//     public:
//       uint64_t get_size() { return 1 << 20; }
//       void read(nbdkit::ReadRequest request) {
//         std::fill(request.buffer().begin(), request.buffer().end(), 0);
//         std::move(request).done(); // here, or later, on another thread
//       }
//     };
//     NBDKIT_ASYNC_PLUGIN(Zeroes, "zeroes")
//
// docs/async-plugins.md has all members. Nothing in here is compiled into anything but the plugin,
// and nothing keeps state of its own: several servers of a process may share one library.

#ifndef NBDKIT_ASYNC_HPP
#define NBDKIT_ASYNC_HPP

#ifdef NBDKIT_PLUGIN_H
#error "include <nbdkit-async.hpp> in place of <nbdkit-plugin.h>, not after it"
#endif
#define NBDKIT_API_VERSION 2
#include "nbdkit-plugin.h"
#define THREAD_MODEL NBDKIT_THREAD_MODEL_ASYNC

#include <cinttypes>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#if __has_include(<version>)
#include <version>
#endif
#ifdef __cpp_lib_span
#include <span>
#endif

namespace nbdkit {

#ifdef __cpp_lib_span
template <class T> using Span = std::span<T>;
#else
// Bytes that belong to somebody else: what std::span is from C++20 on.
template <class T> class Span {
public:
  constexpr Span() noexcept = default;
  constexpr Span(T *data, std::size_t size) noexcept : data_(data), size_(size) {}

  constexpr T *data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T *begin() const noexcept { return data_; }
  constexpr T *end() const noexcept { return data_ + size_; }
  constexpr T &operator[](std::size_t index) const { return data_[index]; }
  constexpr Span first(std::size_t size) const { return {data_, size}; }
  constexpr Span subspan(std::size_t from) const { return {data_ + from, size_ - from}; }
  constexpr Span subspan(std::size_t from, std::size_t size) const { return {data_ + from, size}; }

private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};
#endif

// What a client asks for besides: request.has(nbdkit::Flag::fua).
enum class Flag : uint32_t {
  may_trim = NBDKIT_FLAG_MAY_TRIM,   // zero: a hole that reads as zeroes will do
  fua = NBDKIT_FLAG_FUA,             // write, trim, zero: on stable storage before the answer
  req_one = NBDKIT_FLAG_REQ_ONE,     // extents: the first one is enough
  fast_zero = NBDKIT_FLAG_FAST_ZERO, // zero: fail with ENOTSUP unless faster than a write
};

enum class Fua { none = NBDKIT_FUA_NONE, emulate = NBDKIT_FUA_EMULATE, native = NBDKIT_FUA_NATIVE };

enum class Cache {
  none = NBDKIT_CACHE_NONE,
  emulate = NBDKIT_CACHE_EMULATE,
  native = NBDKIT_CACHE_NATIVE
};

enum class Extent : uint32_t {
  data = 0,
  hole = NBDKIT_EXTENT_HOLE, // not allocated; what it reads as is not known
  zero = NBDKIT_EXTENT_ZERO, // allocated, reads as zeroes
  hole_zero = NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO,
};

// Bytes, powers of 2; all 0 for no opinion.
struct BlockSize {
  uint32_t minimum = 0;
  uint32_t preferred = 0;
  uint32_t maximum = 0;
};

// An error of which nbdkit_error has been told already: it is not logged again.
class Reported : public std::exception {
public:
  explicit Reported(int error = EIO) noexcept : error_(error) {}
  int error() const noexcept { return error_; }
  const char *what() const noexcept override { return "reported already"; }

private:
  int error_;
};

// Bytes from "64M" and the like, true or false from "yes" and the like; throw Reported.
inline int64_t parse_size(const std::string &text) {
  const int64_t size = nbdkit_parse_size(text.c_str());
  if (size == -1)
    throw Reported(EINVAL);
  return size;
}

inline bool parse_bool(const std::string &text) {
  const int value = nbdkit_parse_bool(text.c_str());
  if (value == -1)
    throw Reported(EINVAL);
  return value != 0;
}

namespace detail {

// A positive errno, whatever the code is.
inline int errno_of(const std::error_code &code) noexcept {
  const std::error_condition condition = code.default_error_condition();
  const bool is_errno = condition.category() == std::generic_category() && condition.value() > 0;
  return is_errno ? condition.value() : EIO;
}

// In a catch block: logs the exception as a failure of `what`, and returns its errno.
inline int report_exception(const char *what) noexcept {
  try {
    throw;
  } catch (const Reported &error) {
    return error.error();
  } catch (const std::system_error &error) {
    nbdkit_error("%s: %s", what, error.what());
    return errno_of(error.code());
  } catch (const std::bad_alloc &) {
    nbdkit_error("%s: out of memory", what);
    return ENOMEM;
  } catch (const std::exception &error) {
    nbdkit_error("%s: %s", what, error.what());
    return EIO;
  } catch (...) {
    nbdkit_error("%s: an exception that is no std::exception", what);
    return EIO;
  }
}

// 0, or the errno of what `call` has thrown.
template <class F> int guarded(const char *what, F &&call) noexcept {
  try {
    call();
    return 0;
  } catch (...) {
    return report_exception(what);
  }
}

// The callback that a thread is in. A request that is dropped inside it, perhaps because an
// exception passes, is answered where it ends: only there is known what was thrown.
struct Call {
  void *conn;
  uint64_t reqid;
  bool is_dropped;
};

// Hidden, so that each library has its own and none is STB_GNU_UNIQUE.
__attribute__((visibility("hidden"))) inline thread_local Call *current_call = nullptr;

template <class P> struct Callbacks;

} // namespace detail

} // namespace nbdkit

#include "nbdkit-async-requests.hpp"

namespace nbdkit {

// Answers that this thread gives while it lives leave together.
class Batch {
public:
  Batch() noexcept { nbdkit_async_batch_begin(); }
  ~Batch() { nbdkit_async_batch_end(); }
  Batch(const Batch &) = delete;
  Batch &operator=(const Batch &) = delete;
};

// Whether the callback that runs on this thread may take as long as a copy of its request's data.
// False: it has to return at once.
inline bool may_copy() noexcept {
  return nbdkit_async_may_copy != nullptr && nbdkit_async_may_copy() != 0;
}

// What list_exports adds to; up to 4096 bytes each.
class Exports {
public:
  void add(const std::string &name, const std::string &description = {}) {
    if (nbdkit_add_export(exports_, name.c_str(), description.c_str()) == -1)
      throw Reported();
  }

private:
  template <class P> friend struct detail::Callbacks;
  explicit Exports(struct nbdkit_exports *exports) noexcept : exports_(exports) {}

  struct nbdkit_exports *exports_;
};

} // namespace nbdkit

#include "nbdkit-async-callbacks.hpp"

// Once in a plugin, outside of any namespace, without a semicolon.
#define NBDKIT_ASYNC_PLUGIN(type, name_of_plugin)                                                  \
  namespace {                                                                                      \
  struct nbdkit_plugin nbdkit_async_table = ::nbdkit::detail::table_of<type>(name_of_plugin);      \
  }                                                                                                \
  NBDKIT_REGISTER_PLUGIN(nbdkit_async_table)

#endif // NBDKIT_ASYNC_HPP
