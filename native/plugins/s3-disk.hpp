// The interface of the s3 plugin's two kinds of disks.
#ifndef ASYNCNBD_S3_DISK_HPP
#define ASYNCNBD_S3_DISK_HPP

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <nbdkit-async.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "http-joined-reads.hpp"
#include "s3-settings.hpp"

namespace s3 {

/// All clients share one disk. Any number of requests may come at once, on any thread.
class Disk {
public:
  virtual ~Disk() = default;
  /// Waits for the store. False on failure, after nbdkit_error().
  virtual bool start() = 0;
  /// Called for each new client; may wait. False on failure, after nbdkit_error().
  virtual bool open(bool) { return true; }
  virtual uint64_t size_bytes() const = 0;
  virtual bool can_write() const = 0;
  virtual nbdkit::BlockSize block_size() const = 0;
  virtual void read(nbdkit::ReadRequest request) = 0;
  virtual void write(nbdkit::WriteRequest request) { std::move(request).fail(EROFS); }
  virtual void trim(nbdkit::TrimRequest request) { std::move(request).fail(EROFS); }
  virtual void zero(nbdkit::ZeroRequest request) { std::move(request).fail(EROFS); }
  /// Unless a disk overrides it, reports everything as data.
  virtual void extents(nbdkit::ExtentsRequest request) {
    request.add(request.count(), nbdkit::Extent::data);
    std::move(request).done();
  }
};

/// The limits for joining reads. Reads may use all connections, and other requests then wait in the
/// HTTP client.
inline http::JoinLimits join_limits(const Settings &settings, uint64_t boundary_bytes = 0) {
  return {.requests = settings.http.connections,
          .most_bytes = 4 << 20,
          .boundary_bytes = boundary_bytes};
}

/// The object's length in "bytes 0-4095/1048576", also for an unsatisfiable range.
inline std::optional<uint64_t> total_of(std::string_view content_range) {
  const size_t slash = content_range.rfind('/');
  if (slash == std::string_view::npos)
    return std::nullopt;
  uint64_t total = 0;
  const char *const end = content_range.data() + content_range.size();
  const auto [rest, error] = std::from_chars(content_range.data() + slash + 1, end, total);
  return error == std::errc() && rest == end ? std::optional(total) : std::nullopt;
}

/// Whether a response's Content-Range is exactly this range.
inline bool is_range(std::string_view content_range, uint64_t offset, uint64_t count,
                     uint64_t total) {
  return content_range == "bytes " + std::to_string(offset) + "-" +
                              std::to_string(offset + count - 1) + "/" + std::to_string(total);
}

} // namespace s3

#endif
