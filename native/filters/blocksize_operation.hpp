// A request to the blocksize filter that the plugin cannot take unchanged: done in pieces, one
// after the other. For a part of a block, the whole block is read and written.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/sparse.hpp"
#include "filters/block_operation.hpp"
#include "filters/blocksize_disk.hpp"

namespace asyncnbd::filters {

class BlocksizeOperation;

// One for each client.
using BlocksizeOperations = backend::SteppedPool<BlocksizeOperation, BlocksizeClient>;

class BlocksizeOperation final : public BlockOperation {
public:
  BlocksizeOperation(BlocksizeClient &client, BlocksizeOperations &pool)
      : BlockOperation(client), client_(client), pool_(pool) {}

  // Completes the request sooner or later.
  void begin(backend::Request &request, backend::Caller caller);

private:
  // What the child does: a piece of whole blocks, the read or write of a block for a part of it, or
  // the flush that makes everything durable.
  enum class Stage : uint8_t { piece, block_read, block_write, flush };

  void set_range();
  int refusal() const;
  bool begin_change();

  Next advance(int *error) override;
  void on_answered_later() override;
  void before_end(int error) override;
  void recycle() override { pool_.put(*this); }
  void run() override;

  Next step(int *error);
  Next make_piece();
  Next make_block_read(int *error);
  Next make_flush();
  Next make_status();
  int take_child();
  void take_block();
  int take_status();
  bool align_known();
  uint64_t known_bytes() const;
  uint16_t flags_of(uint16_t type) const;
  uint8_t *data_here() const { return request().data + (at_ - request().offset); }

  BlocksizeClient &client_;
  BlocksizeOperations &pool_;
  Stage stage_ = Stage::piece;
  bool is_counted_ = false;
  bool has_reservation_ = false; // the request's reservation, not yet passed on
  bool has_made_child_ = false;  // `run` will submit it
  bool needs_flush_ = false;
  uint64_t at_ = 0; // its progress
  uint64_t end_ = 0;
  uint64_t piece_bytes_ = 0;           // the length of the child's piece from there
  std::unique_ptr<uint8_t[]> block_;   // kept for the next request
  size_t context_ = 0;                 // of a block status, the one being answered
  std::vector<backend::Extent> known_; // its extents, from the request's first block on
};

} // namespace asyncnbd::filters
