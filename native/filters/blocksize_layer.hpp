// A client's layer of the blocksize filter: decides which requests pass unchanged, and which need
// an operation. See blocksize.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "filters/blocksize_disk.hpp"
#include "filters/blocksize_operation.hpp"
#include "filters/emulated_layer.hpp"

namespace asyncnbd::filters {

// In bytes; 0: not given by the user.
struct BlocksizeSettings {
  uint64_t min_block = 0;
  uint64_t max_data = 0;
  uint64_t max_length = 0;
};

class BlocksizeLayer final : public EmulatedLayer, private backend::Completer {
public:
  BlocksizeLayer(std::unique_ptr<backend::Backend> opened, const BlocksizeSettings &settings,
                 BlocksizeDisk &disk);

  backend::Reservation reserve(backend::Request &request) override;
  void unreserve(backend::Request &request) override;
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override;
  void submit(backend::Request &request, backend::Caller caller) override;
  void give_up_unanswered() override;
  void release_idle_memory() override;

private:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;
  bool set_limits(const backend::BlockSizes &below, std::string *error);
  bool is_whole(const backend::Request &request) const;
  bool is_counted(const backend::Request &request) const;
  void submit_counted(backend::Request &request, backend::Caller caller);

  // The end of a counted change.
  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;

  const BlocksizeSettings settings_;
  BlocksizeClient client_;
  BlocksizeOperations operations_{client_};
};

} // namespace asyncnbd::filters
