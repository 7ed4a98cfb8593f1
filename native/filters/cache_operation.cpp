// See cache_operation.hpp; cache_steps.cpp has the steps.
#include "filters/cache_operation.hpp"

#include <cerrno>

#include "wire/commands.hpp"

namespace asyncnbd::filters {

using backend::Caller;
using backend::Request;

namespace {

// A longer request would take too long; the specification allows us to refuse it.
constexpr uint64_t MAX_KEPT_BYTES = UINT32_MAX;

} // namespace

void CacheOperation::begin(Request &request, bool keeps, Caller caller) {
  SteppedRequest::begin(request);
  keeps_ = keeps;
  stage_ = is(wire::NBD_CMD_FLUSH) ? Stage::turn : Stage::piece;
  has_child_ = has_claim_ = has_unused_ = has_turn_ = has_written_ = false;
  first_error_ = 0;
  worked_bytes_ = 0;
  at_ = is(wire::NBD_CMD_FLUSH) ? 0 : request.offset;
  written_.reset();
  status_.begin(request.offset);
  if (const int error = refusal())
    end(error);
  else if (caller == Caller::may_block)
    go_on(caller);
  else
    disk_.work->run_elsewhere(*this);
}

int CacheOperation::refusal() const {
  const bool keeps_range = is(wire::NBD_CMD_CACHE) || is(wire::NBD_CMD_WRITE_ZEROES);
  return keeps_range && request().length_bytes > MAX_KEPT_BYTES ? EINVAL : 0;
}

// If it continues on another thread, nothing of it may be touched here.
CacheOperation::Next CacheOperation::advance(int *error) {
  if (has_child_)
    *error = take_child(*error);
  has_child_ = false;
  if (*error == 0 && is_to_stop())
    *error = ESHUTDOWN;
  return *error == 0 ? step(error) : Next::end;
}

// Must not submit anything from here, nor wait for our own file.
void CacheOperation::on_answered_later() {
  const bool is_last_read =
      stage_ == Stage::work && is(wire::NBD_CMD_READ) && at_ + child().length_bytes == end_offset();
  if ((stage_ != Stage::last || has_written_) && !is_last_read) {
    disk_.work->run_elsewhere(*this);
    return;
  }
  has_child_ = false;
  end(first_error_ != 0 ? first_error_ : child_error());
}

// While its old data may still be written below, nobody else may write there.
void CacheOperation::before_end(int) {
  end_turn();
  if (!has_child_ || !written_)
    let_go();
}

void CacheOperation::recycle() {
  let_go();
  buffer_.reset();
  pool_.put(*this);
}

void CacheOperation::let_go() {
  if (written_) // how much of it is written is unknown
    disk_.end_writing(written_->first, written_->last, false);
  written_.reset();
  if (has_unused_)
    disk_.work->release(unused_);
  if (has_claim_)
    disk_.work->release(*this);
  has_unused_ = has_claim_ = false;
}

void CacheOperation::end_turn() {
  if (has_turn_)
    disk_.flush_turns->release(turn_);
  has_turn_ = false;
}

void CacheOperation::give_up(CacheClient &client) {
  BlockOperation::give_up(client, *client.disk.work);
  const auto is_of_client = [&client](store::BlockTask &task) {
    return &static_cast<Turn &>(task).operation.client_ == &client;
  };
  for (store::BlockTask *task : client.disk.flush_turns->withdraw(is_of_client)) {
    CacheOperation &waiting = static_cast<Turn &>(*task).operation;
    waiting.has_turn_ = false;
    waiting.end(ESHUTDOWN);
  }
}

// Written-back blocks come from all clients, and a flush below is for all of them.
bool CacheOperation::client_has_gone() const {
  if (written_ || is(wire::NBD_CMD_FLUSH))
    return false;
  return request().completers.maker().client_has_gone();
}

bool CacheOperation::is_change() const {
  return is(wire::NBD_CMD_WRITE) || is(wire::NBD_CMD_WRITE_ZEROES);
}

bool CacheOperation::keeps_all() const {
  return is(wire::NBD_CMD_CACHE) || (is(wire::NBD_CMD_READ) && keeps_);
}

bool CacheOperation::is_covered_in_part(uint64_t block) const {
  return disk_.blocks.begin_of(block) < request().offset ||
         disk_.blocks.end_of(block) > end_offset();
}

bool CacheOperation::has_buffer() {
  if (!buffer_)
    buffer_.reset(new (std::nothrow) uint8_t[client_.piece_bytes()]);
  return buffer_ != nullptr;
}

} // namespace asyncnbd::filters
