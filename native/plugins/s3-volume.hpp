// A volume of equally large objects as a disk, with the same layout as nbdkit's S3 plugin.
#ifndef ASYNCNBD_S3_VOLUME_HPP
#define ASYNCNBD_S3_VOLUME_HPP

#include <atomic>
#include <cerrno>
#include <memory>
#include <nbdkit-async.hpp>
#include <span>
#include <utility>

#include "http-joined-reads.hpp"
#include "s3-disk.hpp"
#include "s3-listing.hpp"
#include "s3-objects.hpp"

namespace s3 {

class Volume : public Disk {
public:
  explicit Volume(Store &store);

  bool start() override;
  bool open(bool is_readonly) override;
  uint64_t size_bytes() const override { return layout_.size_bytes; }
  bool can_write() const override {
    return !store_.settings().is_readonly && !objects_.is_stopped();
  }
  nbdkit::BlockSize block_size() const override;
  void read(nbdkit::ReadRequest request) override;
  void write(nbdkit::WriteRequest request) override;
  void trim(nbdkit::TrimRequest request) override;
  void zero(nbdkit::ZeroRequest request) override;
  void extents(nbdkit::ExtentsRequest request) override;

private:
  using PartsPtr = std::shared_ptr<Parts>;
  struct Piece {
    uint64_t object;
    uint32_t begin; // in the object
    uint32_t end;
    uint32_t done; // bytes of the request before it
  };
  /// A piece of an object that a request reads. If it is destroyed without a result, it has failed.
  class PieceRead {
  public:
    PieceRead(std::span<char> buffer, PartsPtr parts) : buffer_(buffer), parts_(std::move(parts)) {}
    ~PieceRead() {
      if (parts_ != nullptr)
        parts_->fail(EIO);
    }
    PieceRead(PieceRead &&) noexcept = default;
    PieceRead &operator=(PieceRead &&) = delete;

    std::span<char> buffer() const { return buffer_; }
    void finish(int error) {
      if (error != 0)
        parts_->fail(error);
      parts_.reset();
    }

  private:
    std::span<char> buffer_;
    PartsPtr parts_;
  };
  using Reads = http::JoinedReads<PieceRead>;

  template <typename Each> void for_pieces(uint64_t offset, uint64_t count, Each each) const;
  bool check_objects(const Listing &listing) const;
  bool refuse_empty() const;
  void send(Reads::Group group);
  int error_of(const Reads::Group &group, const http::Response &response) const;
  void change_pieces(uint64_t offset, uint64_t count, const char *data, const PartsPtr &parts);
  void remove_whole(uint64_t first, uint64_t end, const PartsPtr &parts);
  void tell_extents(nbdkit::ExtentsRequest request, const Listing &listing);

  Store &store_;
  const Layout layout_;
  Objects objects_;
  Reads reads_;
  std::atomic<bool> was_empty_{false}; // it had no objects when it was last listed
};

} // namespace s3

#endif
