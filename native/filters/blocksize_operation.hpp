// A request behind the blocksize filter that the plugin cannot take as it is: done in pieces, one
// after the other. A part of a block is read with all of it, and written with all of it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/sparse.hpp"
#include "filters/block_operation.hpp"
#include "filters/blocksize_disk.hpp"

namespace asyncnbd::filters {

class BlocksizeOperation;

// A client's.
using BlocksizeOperations = backend::SteppedPool<BlocksizeOperation, BlocksizeClient>;

class BlocksizeOperation final : public BlockOperation {
public:
  BlocksizeOperation(BlocksizeClient &client, BlocksizeOperations &pool)
      : BlockOperation(client), client_(client), pool_(pool) {}

  // Completes the request sooner or later.
  void begin(backend::Request &request, backend::Caller caller);

private:
  // What the child does: a piece of whole blocks, the reading and the writing of the block of a
  // part, or the flush that makes it all durable.
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
  bool has_reservation_ = false; // the request's, which has not gone below yet
  bool has_made_child_ = false;  // for `run` to submit
  bool needs_flush_ = false;
  uint64_t at_ = 0; // how far it has come
  uint64_t end_ = 0;
  uint64_t piece_bytes_ = 0;           // from there, that the child is for
  std::unique_ptr<uint8_t[]> block_;   // kept for the next request
  size_t context_ = 0;                 // of a block status, the one being answered
  std::vector<backend::Extent> known_; // of that, from the begin of the request's first block on
};

} // namespace asyncnbd::filters
