// A request to the cow filter that needs several steps: it reads what it needs from below with its
// own requests, one after the other.
#pragma once

#include <memory>

#include "filters/block_operation.hpp"
#include "filters/cow_client.hpp"

namespace asyncnbd::filters {

class CowOperation;

// One for each client.
using CowOperations = backend::SteppedPool<CowOperation, CowClient>;

class CowOperation final : public BlockOperation {
public:
  CowOperation(CowClient &client, CowOperations &pool)
      : BlockOperation(client), client_(client), pool_(pool) {}

  // Completes the request sooner or later. `copies`: whether a read or a cache request copies
  // blocks.
  void begin(backend::Request &request, bool copies, backend::Caller caller);

private:
  int refusal() const;

  // On a thread that may wait for our own file.
  Next advance(int *error) override;
  void on_answered_later() override;
  void before_end(int error) override;
  void recycle() override;

  // The work before the next child is submitted, or the request completed.
  Next step(int *error);
  Next read_step(int *error);
  Next status_step(int *error);
  Next fill_step(int *error);
  bool is_to_fill(uint64_t block, CowState state) const;
  bool is_covered_in_part(uint64_t block) const;
  uint64_t next_candidate(uint64_t block) const;
  Next begin_fill(uint64_t block, uint64_t count, int *error);
  int fill_with_zeroes(uint64_t block);
  int write();
  bool keeps_space() const; // for zeroing
  Next zero_step(int *error);
  int zero(uint64_t end);
  int zero_whole(uint64_t first_block, uint64_t end_block);
  int zero_part(uint64_t block);

  int take_child();
  int store_fill();

  CowClient &client_;
  CowOperations &pool_;
  bool copies_ = false;
  bool is_filling_ = false;
  uint64_t at_ = 0;        // its progress: a block while it fills, else an offset
  uint64_t fill_last_ = 0; // the last block to fill; `at_` is the first
  std::unique_ptr<uint8_t[]> fill_;
};

} // namespace asyncnbd::filters
