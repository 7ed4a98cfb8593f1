// The requests of c_backend.hpp; c_calls.cpp has the callbacks.
#include "backend/c_backend.hpp"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>

#include "base/invariant.hpp"
#include "host/extents_list.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::backend {

namespace {

// How many abandoned requests the log names.
constexpr unsigned MAX_NAMED = 10;

} // namespace

int Operation::on_reply(const host::AsyncReply &reply) {
  return backend->on_reply(*this, reply);
}

void Operation::on_late_reply() {
  backend->on_late_reply(*this);
}

CBackend::CBackend(CPlugin &plugin, host::CallContext &context, bool readonly)
    : plugin_(plugin), plugin_is_needed_(plugin.shared_from_this()), context_(context),
      readonly_(readonly), operations_(plugin.resources().operations) {}

void CBackend::submit(Request &request, Caller caller) {
  if (plugin_.is_async()) {
    submit_async(request, caller);
    return;
  }
  int error;
  {
    host::ContextScope scope(&context_);
    Call call{&request, nullptr, nullptr};
    error = hand_over(call, perform(call, nullptr, caller));
  }
  request.complete(error);
}

void CBackend::submit_async(Request &request, Caller caller) {
  Operation *operation = operations_.get();
  if (operation == nullptr) {
    request.complete(ENOMEM);
    return;
  }
  operation->backend = this;
  operation->call.request = &request;
  host::ContextScope scope(&context_, caller == Caller::may_block);
  const int error = hand_over(operation->call, perform(operation->call, operation, caller));
  if (error != PENDING)
    end_operation(*operation).complete(error);
}

int CBackend::perform(Call &call, Operation *operation, Caller caller) {
  Request &request = *call.request;
  base::invariant(request.length_bytes <= UINT32_MAX, "a callback's count has 32 bits");
  host::clear_current_error();
  errno = 0; // a callback that fails without setting it must not report an errno of ours
  switch (request.type) {
  case wire::NBD_CMD_READ:
    if (request.answer.data != nullptr)
      return 0;
    if ((operation == nullptr || caller == Caller::may_block) &&
        pipe(request, operation == nullptr))
      return 0;
    errno = 0; // the errno of splice is not the plugin's
    return read(request, operation);
  case wire::NBD_CMD_WRITE:
    return request.pages ? write_pages(call, operation)
                         : write(request, operation, request.data,
                                 static_cast<uint32_t>(request.length_bytes), request.offset);
  case wire::NBD_CMD_FLUSH:
    return flush(operation);
  case wire::NBD_CMD_TRIM:
    return trim(request, operation);
  case wire::NBD_CMD_WRITE_ZEROES:
    return zero(request, operation);
  case wire::NBD_CMD_BLOCK_STATUS:
    return extents(call, operation);
  case wire::NBD_CMD_CACHE:
    return cache(request, operation);
  default:
    return EINVAL;
  }
}

// Before the request is completed: hands over the plugin's error message and answer.
int CBackend::hand_over(Call &call, int error) {
  if (error == PENDING)
    return PENDING;
  Request &request = *call.request;
  if (error == 0 && request.type == wire::NBD_CMD_BLOCK_STATUS)
    error = take_extents(call);
  if (error == 0)
    return 0;
  std::string words = host::take_error_message();
  if (!words.empty())
    request.make_extras().error_text = std::move(words);
  return error;
}

// Takes the extents that the plugin has added to its list.
int CBackend::take_extents(Call &call) {
  std::vector<Extent> &extents = call.request->extras->statuses.front().extents;
  extents.reserve(call.extents->list.size());
  for (const nbdkit_extents::Entry &entry : call.extents->list)
    append_extent(extents, entry.length, entry.type);
  if (!extents.empty())
    return 0;
  host::log_error("extents succeeded, but added no extents");
  return EINVAL;
}

// Frees what the request has held here. The caller then completes the request, and must not touch
// this backend afterwards.
Request &CBackend::end_operation(Operation &operation) {
  Request &request = *operation.call.request;
  operation.call = {};
  operations_.put(&operation);
  return request;
}

bool CBackend::fits(const Request &request, const host::AsyncReply &reply) const {
  const bool wants_data = request.type == wire::NBD_CMD_READ;
  const auto wanted_bytes = wants_data ? static_cast<uint32_t>(request.length_bytes) : 0;
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
  Request &request = *operation.call.request;
  int error = reply.error;
  int result = request.completers.maker().client_has_gone() ? ESHUTDOWN : 0;
  if (error == 0 && !fits(request, reply)) {
    error = EIO;
    result = EINVAL;
  }
  const bool has_data = error == 0 && request.type == wire::NBD_CMD_READ;
  if (!has_data && reply.release != nullptr)
    reply.release(reply.opaque);
  error = hand_over(operation.call, error);
  end_operation(operation);
  if (has_data && reply.release != nullptr)
    request.answer = {Answer::Kind::lent, reply.data, reply.release, reply.opaque};
  else if (has_data && reply.data != request.data)
    request.answer = {Answer::Kind::borrowed, reply.data};
  request.complete(error);
  return result;
}

void CBackend::give_up_unanswered() {
  given_up_.store(true, std::memory_order_relaxed);
  std::vector<Request *> unanswered;
  operations_.for_each([&unanswered](Operation &operation) {
    if (operation.give_up()) // from now on a late reply may end it, after for_each
      unanswered.push_back(operation.call.request);
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
  Request &request = *operation.call.request;
  operations_.put_given_up(&operation);
  plugin_.unanswered_requests.fetch_sub(1);
  request.completers.maker().release(request); // may be the end of this backend
}

} // namespace asyncnbd::backend
