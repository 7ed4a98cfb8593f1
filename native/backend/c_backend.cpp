// The requests of c_backend.hpp, step by step; c_calls.cpp has the callbacks.
#include "backend/c_backend.hpp"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>

#include "host/extents_list.hpp"
#include "host/log.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::backend {

namespace {

// How many of the requests that are given up are named in the log.
constexpr unsigned MAX_NAMED = 10;

// The length of a callback's range has 32 bits; the parts of a longer one stay aligned.
constexpr uint32_t PART_BYTES = UINT32_C(1) << 31;

// A range that takes more calls than 65,536 would keep a thread, or a plugin's lock, for too long;
// the specification allows to refuse it.
constexpr uint64_t MAX_RANGE_BYTES = uint64_t{PART_BYTES} << 16;

// As many parts of a long range one block status tells of: 512 GiB.
constexpr unsigned MAX_STATUS_PARTS = 256;

// What stands in for a callback moves data, and a client that asks for so much gets nothing else
// done. The specification allows to refuse it.
constexpr uint64_t MAX_EMULATED_BYTES = UINT32_MAX;

} // namespace

int Operation::on_reply(const host::AsyncReply &reply) {
  return backend->on_reply(*this, reply);
}

void Operation::on_late_reply() {
  backend->on_late_reply(*this);
}

CBackend::CBackend(CPlugin &plugin, host::CallContext &context)
    : plugin_(plugin), plugin_is_needed_(plugin.shared_from_this()), context_(context),
      operations_(plugin.resources().operations) {}

void CBackend::submit(Request &request, Caller) {
  if (plugin_.is_async()) {
    submit_async(request);
    return;
  }
  int error;
  {
    host::ContextScope scope(&context_);
    Progress progress;
    progress.request = &request;
    progress.step = first_step(request);
    error = hand_over(progress, run(progress, nullptr));
  }
  request.complete(error);
}

void CBackend::submit_async(Request &request) {
  Operation *operation = operations_.get();
  if (operation == nullptr) {
    request.complete(ENOMEM);
    return;
  }
  operation->backend = this;
  operation->progress = {};
  operation->progress.request = &request;
  operation->progress.step = first_step(request);
  host::ContextScope scope(&context_);
  const int error = hand_over(operation->progress, run(operation->progress, operation));
  if (error != PENDING)
    end_operation(*operation).complete(error);
}

// Before the request is completed: what the plugin has said goes with it.
int CBackend::hand_over(Progress &progress, int error) {
  if (error == PENDING)
    return PENDING;
  progress.extents.reset();
  if (error == 0)
    return 0;
  Request &request = *progress.request;
  std::string words = host::take_error_message();
  if (!words.empty())
    request.make_extras().error_text = std::move(words);
  if (progress.done_bytes > 0)
    request.make_extras().error_offset = request.offset + progress.done_bytes;
  return error;
}

// What the plugin has added to the list it was given.
std::vector<Extent> CBackend::take_extents(Progress &progress) {
  std::vector<Extent> extents;
  extents.reserve(progress.extents->list.size());
  for (const nbdkit_extents::Entry &entry : progress.extents->list)
    extents.push_back({entry.length, entry.type});
  progress.extents.reset();
  return extents;
}

Step CBackend::first_step(const Request &request) const {
  // A lookup that takes as long as the read itself would not pay.
  if (request.may_have_holes && plugin_.table().async_extents == nullptr)
    return Step::lookup;
  // A fast zero that cannot be is refused by `perform`, as a plugin would.
  if (request.type == wire::NBD_CMD_WRITE_ZEROES && capabilities_.zero != Support::native)
    return Step::pieces;
  if (request.type == wire::NBD_CMD_CACHE && capabilities_.cache == Support::emulate)
    return Step::pieces;
  return Step::command;
}

int CBackend::run(Progress &progress, Operation *operation) {
  for (;;) {
    int error = perform(progress, operation);
    if (error == PENDING || !has_next_step(progress, &error))
      return error;
  }
}

int CBackend::perform(Progress &progress, Operation *operation) {
  const Request &request = *progress.request;
  host::clear_current_error();
  errno = 0; // a callback that fails without one must not pass on what our own calls left
  if (progress.step == Step::flush)
    return flush(operation);
  if (request.length_bytes > MAX_RANGE_BYTES && request.type != wire::NBD_CMD_BLOCK_STATUS)
    return EINVAL;
  const bool in_pieces = progress.step == Step::pieces;
  const uint64_t left_bytes = request.length_bytes - progress.done_bytes;
  progress.piece_bytes = left_bytes <= UINT32_MAX ? static_cast<uint32_t>(left_bytes) : PART_BYTES;
  if (progress.step == Step::lookup)
    return extents(progress, operation);
  switch (request.type) {
  case wire::NBD_CMD_READ:
    if (in_pieces)
      return read_run(progress, operation);
    if (request.answer.data != nullptr || pipe(progress))
      return 0;
    errno = 0; // what splice has left there is not the plugin's
    return read(progress, operation, request.data, request.offset);
  case wire::NBD_CMD_WRITE:
    return request.pages
               ? write_pages(progress)
               : write(progress, operation, request.data, progress.piece_bytes, request.offset);
  case wire::NBD_CMD_FLUSH:
    return flush(operation);
  case wire::NBD_CMD_TRIM:
    return trim(progress, operation);
  case wire::NBD_CMD_WRITE_ZEROES:
    if (in_pieces && (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) != 0)
      return ENOTSUP;
    if (in_pieces && left_bytes > MAX_EMULATED_BYTES)
      return EINVAL;
    return in_pieces ? write_zero_piece(progress, operation) : zero(progress, operation);
  case wire::NBD_CMD_BLOCK_STATUS:
    return extents(progress, operation);
  case wire::NBD_CMD_CACHE:
    if (in_pieces && left_bytes > MAX_EMULATED_BYTES)
      return EINVAL;
    return in_pieces ? cache_piece(progress, operation) : cache(progress, operation);
  default:
    return EINVAL;
  }
}

// After a step that ended with *error, which is the request's if there is no step after it.
bool CBackend::has_next_step(Progress &progress, int *error) const {
  const Request &request = *progress.request;
  if (progress.step == Step::flush)
    return false;
  if (progress.step == Step::lookup)
    return has_data_left(progress, error);
  if (progress.step == Step::command && request.type == wire::NBD_CMD_WRITE_ZEROES &&
      *error == ENOTSUP && (request.flags & wire::NBD_CMD_FLAG_FAST_ZERO) == 0) {
    progress.step = Step::pieces;
    return true;
  }
  if (*error != 0)
    return false;
  if (request.type == wire::NBD_CMD_BLOCK_STATUS)
    return has_next_context(progress, error);
  progress.done_bytes += progress.piece_bytes;
  if (progress.done_bytes < request.length_bytes && request.type != wire::NBD_CMD_FLUSH) {
    if (progress.step == Step::pieces && request.type == wire::NBD_CMD_READ)
      return skip_hole(progress);
    if (!request.completers.maker().client_has_gone())
      return true;
    *error = ESHUTDOWN; // of what is left, nobody would know
    return false;
  }
  if (!progress.needs_flush)
    return false;
  progress.step = Step::flush;
  return true;
}

// After the lookup of a read: what is to be read. Without an answer, all of it.
bool CBackend::has_data_left(Progress &progress, int *error) const {
  Request &request = *progress.request;
  if (*error == 0)
    request.note_extents(take_extents(progress));
  progress.extents.reset();
  *error = 0;
  if (request.extras && request.extras->runs) {
    progress.step = Step::pieces;
    return skip_hole(progress);
  }
  progress.step = Step::command;
  return true;
}

// From a run's beginning: goes past holes. False at the end.
bool CBackend::skip_hole(Progress &progress) {
  const Request &request = *progress.request;
  for (const Run &run : *request.extras->runs) {
    if (run.offset != request.offset + progress.done_bytes)
      continue;
    if (!run.is_hole)
      return true;
    progress.done_bytes += run.length_bytes;
  }
  return false;
}

bool CBackend::has_next_context(Progress &progress, int *error) {
  const Request &request = *progress.request;
  std::vector<ContextStatus> &statuses = request.extras->statuses;
  ContextStatus &status = statuses[progress.context];
  const std::vector<Extent> added = take_extents(progress);
  if (added.empty() && status.extents.empty()) {
    host::log_error("extents succeeded, but added no extents");
    *error = EINVAL;
    return false;
  }
  uint64_t added_bytes = 0;
  for (const Extent &extent : added) {
    append_extent(status.extents, extent.length_bytes, extent.flags);
    added_bytes += extent.length_bytes;
  }
  progress.done_bytes += added_bytes;
  // A plugin that has told of all it was asked about can tell of what comes after it.
  const bool only_one = (request.flags & wire::NBD_CMD_FLAG_REQ_ONE) != 0;
  const bool may_ask_on = added_bytes >= progress.piece_bytes &&
                          progress.done_bytes < request.length_bytes &&
                          (!only_one || status.extents.size() == 1);
  if (may_ask_on && ++progress.parts < MAX_STATUS_PARTS)
    return true;
  progress.done_bytes = 0;
  progress.parts = 0;
  return ++progress.context < statuses.size();
}

// Frees what the request has held here. The caller completes it next, and then must not touch
// this backend any more.
Request &CBackend::end_operation(Operation &operation) {
  Request &request = *operation.progress.request;
  operation.progress.scratch.reset();
  operation.progress.extents.reset();
  operations_.put(&operation);
  return request;
}

bool CBackend::fits(const Progress &progress, const host::AsyncReply &reply) const {
  const Request &request = *progress.request;
  const bool in_pieces = progress.step == Step::pieces;
  const bool wants_data =
      progress.step != Step::flush &&
      (request.type == wire::NBD_CMD_READ || (request.type == wire::NBD_CMD_CACHE && in_pieces));
  const uint32_t wanted_bytes = wants_data ? progress.piece_bytes : 0;
  if ((reply.data != nullptr) == wants_data && reply.length_bytes == wanted_bytes)
    return true;
  host::ContextScope scope(&context_);
  host::log_error("%s offset=%" PRIu64 " count=%" PRIu64 ": the plugin replied with %" PRIu32
                  " bytes of data instead of %" PRIu32 "; the client gets an error",
                  wire::command_name(request.type), request.offset, request.length_bytes,
                  reply.length_bytes, wanted_bytes);
  return false;
}

int CBackend::on_reply(Operation &operation, const host::AsyncReply &reply) {
  Progress &progress = operation.progress;
  int error = reply.error;
  int result = progress.request->completers.maker().client_has_gone() ? ESHUTDOWN : 0;
  if (error == 0 && !fits(progress, reply)) {
    error = EIO;
    result = EINVAL;
  }
  const bool reads = error == 0 && progress.request->type == wire::NBD_CMD_READ;
  const bool is_run = reads && progress.step == Step::pieces;
  if (is_run)
    keep_run(progress, reply.data);
  const bool has_data = reads && !is_run;
  if (!has_data && reply.release != nullptr)
    reply.release(reply.opaque);
  if (has_next_step(progress, &error)) {
    go_on_elsewhere(operation);
    return result;
  }
  error = hand_over(progress, error);
  Request &request = end_operation(operation);
  if (has_data && reply.release != nullptr)
    request.answer = {Answer::Kind::lent, reply.data, reply.release, reply.opaque};
  else if (has_data && reply.data != request.data)
    request.answer = {Answer::Kind::borrowed, reply.data};
  request.complete(error);
  return result;
}

// The plugin's data of a run, to where the rest of the read is.
void CBackend::keep_run(const Progress &progress, const uint8_t *data) {
  uint8_t *due = progress.request->data + progress.done_bytes;
  if (data != due)
    memcpy(due, data, progress.piece_bytes);
}

// The next callback is not called from inside a reply: the plugin may hold its locks there.
void CBackend::go_on_elsewhere(Operation &operation) {
  auto go_on = [this, &operation] {
    host::ContextScope scope(&context_);
    const int error = hand_over(operation.progress, run(operation.progress, &operation));
    if (error != PENDING)
      end_operation(operation).complete(error);
  };
  if (!plugin_.resources().threads.run(go_on))
    go_on();
}

void CBackend::give_up_unanswered() {
  given_up_.store(true, std::memory_order_relaxed);
  std::vector<Request *> unanswered;
  operations_.for_each([&unanswered](Operation &operation) {
    if (operation.give_up()) // from then on a late reply may end it, once for_each is over
      unanswered.push_back(operation.progress.request);
  });
  plugin_.unanswered_requests.fetch_add(static_cast<unsigned>(unanswered.size()));
  host::ContextScope scope(&context_);
  unsigned named = 0;
  for (Request *given_up : unanswered) {
    Request &request = *given_up;
    if (named++ < MAX_NAMED)
      host::log_error("%s offset=%" PRIu64 " count=%" PRIu64
                      ": the plugin did not reply: giving up",
                      wire::command_name(request.type), request.offset, request.length_bytes);
    request.give_up(ESHUTDOWN);
  }
  if (named > MAX_NAMED)
    host::log_error("giving up %u more requests without a reply", named - MAX_NAMED);
}

void CBackend::on_late_reply(Operation &operation) {
  Request &request = *operation.progress.request;
  operation.progress.scratch.reset();
  operation.progress.extents.reset();
  operations_.put(&operation);
  plugin_.unanswered_requests.fetch_sub(1);
  request.completers.maker().release(request); // may be the end of this backend
}

} // namespace asyncnbd::backend
