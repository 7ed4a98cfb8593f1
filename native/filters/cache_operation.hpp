// A request to the cache filter that needs several steps. It goes through its blocks piece by
// piece: claims them, makes room for new ones, fetches what it needs, does its part, and writes
// back. A flush first waits for its turn, and after its flush below goes through the written-back
// blocks once more. It uses its own requests to the disk below, one after the other.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "filters/block_operation.hpp"
#include "filters/cache_client.hpp"

namespace asyncnbd::filters {

class CacheOperation;

// One for each client.
using CacheOperations = backend::SteppedPool<CacheOperation, CacheClient>;

class CacheOperation final : public BlockOperation {
public:
  CacheOperation(CacheClient &client, CacheOperations &pool)
      : BlockOperation(client), client_(client), disk_(client.disk), pool_(pool), turn_(*this) {}

  // The client's waiting operations fail at once, others at their next step.
  static void give_up(CacheClient &client);

  // Completes the request sooner or later. `keeps`: whether a read keeps what it fetches.
  void begin(backend::Request &request, bool keeps, backend::Caller caller);

private:
  enum class Stage : uint8_t { turn, piece, room, fill, work, write_back, last, settle };
  struct Range {
    uint64_t first; // block
    uint64_t last;
  };
  // The turn of a flush that writes back. Its owner waits for claims, so nobody with a claim may
  // wait for it.
  struct Turn final : store::BlockTask {
    explicit Turn(CacheOperation &of) : operation(of) { first = last = 0; }
    void run() override { operation.disk_.work->run_elsewhere(operation); }

    CacheOperation &operation;
  };

  int refusal() const;

  // On a thread that may wait for our own file.
  Next advance(int *error) override;
  void on_answered_later() override;
  void before_end(int error) override;
  void recycle() override;
  bool client_has_gone() const override;
  void let_go();
  void end_turn();

  // Steps before the next child is submitted or the request ends. Each returns nothing if the stage
  // has changed.
  using Step = std::optional<Next>;
  Next step(int *error);
  Step stage_step(int *error);
  Step take_turn();
  Step begin_piece();
  Step claim_piece();
  bool find_piece();
  bool find_piece_of(unsigned states);
  Step make_room(int *error);
  bool is_short_of_room(uint64_t more);
  bool may_take_room(uint64_t more);
  bool take_unused();
  bool give_up_unused();
  int begin_room_write();
  void drop_unused();
  void keep_unused(int error);
  Step fill(int *error);
  Step begin_fill(uint64_t block, uint64_t count, int *error);
  Step work(int *error);
  Step read(int *error);
  Step change(int *error);
  Step write_back(int *error);
  Step end_piece();
  Step last_step();
  Step after_last_step(int *error);
  Step settle(int *error);
  Next status_step();

  int begin_write(Range range, uint16_t flags);
  bool has_buffer();

  // Takes the answer of a child.
  int take_child(int error);
  int take_room(int error);
  int take_fill(int error);
  int take_write_back(int error);
  int without_keeping(int error);
  int without_room();

  bool is(uint16_t type) const { return request().type == type; }
  bool is_change() const;
  bool keeps_all() const;
  bool is_covered_in_part(uint64_t block) const;

  CacheClient &client_;
  CacheDisk &disk_;
  CacheOperations &pool_;
  Stage stage_ = Stage::piece;
  bool keeps_ = false;
  bool has_unused_ = false;
  bool has_turn_ = false;
  bool has_written_ = false;         // for a flush: its flush below is needed
  int first_error_ = 0;              // for a flush, which goes on
  int room_error_ = 0;               // why a block could not be dropped
  std::string room_words_;           // and the message for the client
  uint64_t at_ = 0;                  // the progress, an offset; for a flush, a block
  uint64_t piece_end_ = 0;           // an offset
  uint64_t cursor_ = 0;              // in the piece: the current block
  uint64_t may_drop_ = 0;            // how many more, although there is room
  unsigned room_failures_ = 0;       // in the piece: blocks that could not be dropped
  Range filled_{};                   // by the child
  std::optional<Range> written_;     // likewise
  store::RangeClaims::Claim unused_; // drops its first block, writes back the others
  Turn turn_;
  std::unique_ptr<uint8_t[]> buffer_;
};

} // namespace asyncnbd::filters
