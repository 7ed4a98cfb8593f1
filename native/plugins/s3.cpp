// Objects of an S3 store as disks: the callbacks of the s3 plugin.

#include <nbdkit-async.hpp>

#include <cstdio>
#include <memory>

#include "http-library.hpp"
#include "s3-disk.hpp"
#include "s3-object-disk.hpp"
#include "s3-settings.hpp"
#include "s3-store.hpp"
#include "s3-volume.hpp"

namespace {

/// What one client has open; all share one disk.
class Export {
public:
  explicit Export(std::shared_ptr<s3::Disk> disk) : disk_(std::move(disk)) {}

  uint64_t get_size() { return disk_->size_bytes(); }
  bool can_write() { return disk_->can_write(); }
  bool can_flush() { return true; }
  bool can_multi_conn() { return true; }
  bool can_fast_zero() { return true; }
  bool is_rotational() { return false; }
  nbdkit::Fua can_fua() { return nbdkit::Fua::native; }
  nbdkit::BlockSize block_size() { return disk_->block_size(); }

  void read(nbdkit::ReadRequest request) { disk_->read(std::move(request)); }
  void write(nbdkit::WriteRequest request) { disk_->write(std::move(request)); }
  void trim(nbdkit::TrimRequest request) { disk_->trim(std::move(request)); }
  void zero(nbdkit::ZeroRequest request) { disk_->zero(std::move(request)); }
  void extents(nbdkit::ExtentsRequest request) { disk_->extents(std::move(request)); }
  // The store already has everything that was answered.
  void flush(nbdkit::FlushRequest request) { std::move(request).done(); }

private:
  std::shared_ptr<s3::Disk> disk_;
};

class S3 {
public:
  static constexpr const char *longname = "asyncnbd s3 plugin";
  static constexpr const char *version = "1.0.0";
  static constexpr const char *description = "Objects of an S3 store as disks.";
  static inline const char *const &config_help = s3::PARAMETERS_HELP;

  bool config(const std::string &key, const std::string &value) {
    if (!s3::set_parameter(settings_, key, value))
      throw nbdkit::Reported(EINVAL);
    return true;
  }

  void config_complete() {
    // libcurl reads the environment when it is first loaded.
    if (!s3::complete(settings_) || http::library() == nullptr)
      throw nbdkit::Reported(EINVAL);
  }

  /// Opens the disk here, so that errors are reported before a client connects.
  void get_ready() {
    store_ = s3::Store::open(settings_);
    if (store_ == nullptr)
      throw nbdkit::Reported(EIO);
    if (settings_.size_bytes)
      disk_ = std::make_shared<s3::Volume>(*store_);
    else
      disk_ = std::make_shared<s3::ObjectDisk>(*store_);
    if (!disk_->start())
      throw nbdkit::Reported(EIO);
    store_->has_started();
  }

  std::unique_ptr<Export> open(bool is_readonly) {
    if (!disk_->open(is_readonly))
      throw nbdkit::Reported(ENOENT);
    return std::make_unique<Export>(disk_);
  }

  /// Requests that wait for the store are answered before the disk is destroyed.
  void cleanup() {
    if (store_ != nullptr)
      store_->stop();
  }

private:
  s3::Settings settings_;
  std::shared_ptr<s3::Disk> disk_;
  std::unique_ptr<s3::Store> store_; // must end before the disk that its requests refer to
};

} // namespace

NBDKIT_ASYNC_PLUGIN(S3, "s3")
