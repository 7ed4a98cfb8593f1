// One object of a bucket as a read-only disk.
#ifndef ASYNCNBD_S3_OBJECT_DISK_HPP
#define ASYNCNBD_S3_OBJECT_DISK_HPP

#include <atomic>
#include <memory>
#include <nbdkit-async.hpp>

#include "http-joined-reads.hpp"
#include "s3-disk.hpp"
#include "s3-store.hpp"

namespace s3 {

class ObjectDisk : public Disk {
public:
  explicit ObjectDisk(Store &store);

  bool start() override;
  uint64_t size_bytes() const override { return size_bytes_; }
  bool can_write() const override { return false; }
  nbdkit::BlockSize block_size() const override { return {1, 512 * 1024, UINT32_MAX}; }
  void read(nbdkit::ReadRequest request) override;

private:
  std::string hint_at_volume() const;
  bool is_same(const http::Response &response) const;
  using Reads = http::JoinedReads<nbdkit::ReadRequest>;
  void send(Reads::Group group);
  bool is_right(const Reads::Group &group, const http::Response &response);

  Store &store_;
  Reads reads_;
  uint64_t size_bytes_ = 0;
  std::string etag_;
  std::atomic<bool> has_told_of_change_{false};
};

} // namespace s3

#endif
