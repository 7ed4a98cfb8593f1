// See client.hpp.
#include "client.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "content.hpp"
#include "requests.hpp"
#include "wire/commands.hpp"
#include "wire/constants.hpp"

namespace simulation {

using namespace asyncnbd;

namespace {

constexpr int64_t NS_PER_MS = 1'000'000;
// Who is awake answers in less; what has not been noticed waits for somebody's next look, which
// comes after a second.
constexpr int64_t LONGEST_ANSWER_NS = 300 * NS_PER_MS;
constexpr int64_t PATIENCE_NS = 10'000 * NS_PER_MS;
// So much longer than it is told a stalled client is waited for, at most: a loop that leads it
// first finds out, in up to twice LoopPoller::QUIET_MS, that it is quiet.
constexpr int64_t LATE_CUT_NS = 4000 * NS_PER_MS;
constexpr uint64_t LONGEST_PAYLOAD_BYTES = LARGEST_REQUEST_BYTES + 64;
constexpr uint64_t LONGEST_IDLE_MS = 5000;

} // namespace

Client::Client(Clients &all, unsigned number, std::shared_ptr<Socket> socket,
               const Excuses &excuses)
    : all_(all), number_(number), socket_(std::move(socket)), excuses_(excuses) {
  Random &random = random_of_run();
  const Plan &plan = all.plan;
  if (plan.misbehave_one_in > 0 && random.one_in(plan.misbehave_one_in))
    way_ = static_cast<Way>(random.between(1, 4));
  window_ = random.between(1, plan.requests);
  if (way_ == Way::reads_late)
    window_ = plan.requests;
  leaves_at_ = random.below(plan.requests);
}

void Client::start() {
  const std::string name = "client " + std::to_string(number_);
  start_fiber(name + " sends", [this] { send_requests(); });
  start_fiber(name + " receives", [this] { receive_replies(); });
}

void Client::describe() const {
  fprintf(
      stderr,
      "client %u: way %u, %llu sent, %zu unanswered, sending %d, receiving %d; on their way %zu "
      "bytes to the server, %zu back\n",
      number_, static_cast<unsigned>(way_), static_cast<unsigned long long>(sent_), asked_.size(),
      is_sending_, is_receiving_, socket_->out->size(), socket_->in->size());
  for (const auto &[cookie, asked] : asked_)
    fprintf(stderr, "  %s of %u bytes at %llu, flags %x\n", wire::command_name(asked.type),
            asked.length_bytes, static_cast<unsigned long long>(asked.offset), asked.flags);
}

// Others may have to wait for it meanwhile.
void Client::idle(uint64_t longest_ms) {
  all_.idlers++;
  sleep_for_some_time(longest_ms * NS_PER_MS);
  all_.idlers--;
  all_.last_idle_ns = now_ns();
}

// ---- requests -----------------------------------------------------------------------------------

// False: the server does not listen any more.
bool Client::send(const std::vector<uint8_t> &bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t part = socket_->send(bytes.data() + sent, bytes.size() - sent, true);
    if (part < 0)
      return false;
    sent += static_cast<size_t>(part);
    may_switch();
  }
  return true;
}

void Client::ask(uint64_t cookie) {
  Random &random = random_of_run();
  Asked asked = draw_request(all_.plan);
  std::vector<uint8_t> bytes = encode_header(all_.plan.style, cookie, asked);
  if (asked.type == wire::NBD_CMD_WRITE) {
    bytes.resize(bytes.size() + asked.length_bytes);
    fill(bytes.data() + bytes.size() - asked.length_bytes, asked.offset, asked.length_bytes);
  }
  if (way_ == Way::stops_inside && sent_ == leaves_at_) {
    bytes.resize(random.between(1, bytes.size() - 1));
    is_in_request_ = true;
    all_.durable.on_leaving(number_);
  } else {
    if (asked.type == wire::NBD_CMD_FLUSH)
      asked.durable = all_.durable.needed();
    asked_.emplace(cookie, asked);
    last_asked_ns_ = now_ns();
  }
  has_left_ = has_left_ || !send(bytes);
  sent_++;
}

void Client::say_goodbye() {
  if (random_of_run().one_in(2)) {
    send(encode_header(all_.plan.style, 0, {.type = wire::NBD_CMD_DISC}));
  } else {
    socket_->end_writing();
  }
  has_said_goodbye_ = true;
  last_asked_ns_ = now_ns();
}

void Client::send_requests() {
  Random &random = random_of_run();
  for (uint64_t cookie = random.next(); sent_ < all_.plan.requests && !has_left_; cookie++) {
    wait_until([this] { return asked_.size() < window_ || !is_receiving_; });
    ask(cookie);
    if (is_in_request_) {
      stay_inside();
      has_left_ = true;
    } else if (way_ == Way::leaves && sent_ > leaves_at_) {
      has_left_ = true;
      all_.durable.on_leaving(number_);
      socket_->shut_down(); // with replies unread
    } else if (random.one_in(all_.plan.pause_one_in)) {
      sleep_for_some_time(all_.plan.longest_pause_ns);
    }
  }
  is_sending_ = false;
  all_.durable.on_leaving(number_);
  if (way_ == Way::leaves || is_in_request_ || has_left_)
    socket_->shut_down();
  else
    say_goodbye();
  look_at_waits();
}

// In the middle of a request, until the server has had enough.
void Client::stay_inside() {
  const Plan &plan = all_.plan;
  wait_until([this] { return asked_.empty() || !is_receiving_; });
  if (plan.stall_timeout.count() == 0 || plan.refuse_threads_one_in > 0) {
    idle(LONGEST_IDLE_MS);
    return;
  }
  all_.idlers++;
  const int64_t due_ns = now_ns() + plan.stall_timeout.count() * NS_PER_MS + LATE_CUT_NS;
  // The server may have to wait for memory before it reads on.
  if (!wait_until([this] { return !is_receiving_; }, due_ns) &&
      !excuses_.may_wait({.unanswered = asked_.size()}))
    fail("client %u stalls, and is not cut", number_);
  all_.idlers--;
  all_.last_idle_ns = now_ns();
}

// ---- replies ------------------------------------------------------------------------------------

namespace {

bool takes_memory(uint16_t type) {
  return type == wire::NBD_CMD_READ || type == wire::NBD_CMD_WRITE || type == wire::NBD_CMD_CACHE;
}

bool needs_flush(const Asked &asked) {
  return asked.type == wire::NBD_CMD_FLUSH || (asked.flags & wire::NBD_CMD_FLAG_FUA) != 0;
}

} // namespace

bool Client::may_wait() const {
  Waiting waiting{.unanswered = asked_.size()};
  for (const auto &[cookie, asked] : asked_) {
    waiting.flushes = waiting.flushes || needs_flush(asked);
    waiting.bytes +=
        std::max(takes_memory(asked.type) ? asked.length_bytes : 0, wire::answer_bytes(asked.type));
  }
  return excuses_.may_wait(waiting);
}

// As long as there is no reason to be kept waiting, an answer has to come soon.
void Client::wait_for_input() {
  const int64_t patient_until_ns = now_ns() + PATIENCE_NS;
  while (now_ns() < patient_until_ns || asked_.empty()) {
    const int64_t since_ns = now_ns();
    if (wait_until([this] { return socket_->can_receive(); }, since_ns + LONGEST_ANSWER_NS))
      return;
    const bool have_idled = all_.idlers > 0 || all_.last_idle_ns > since_ns;
    for (const auto &[cookie, asked] : asked_)
      if (!have_idled && excuses_.is_overdue(asked))
        fail("client %u waits for a reply that is there", number_);
    if (have_idled || may_wait() || last_asked_ns_ > since_ns)
      continue;
    if (!asked_.empty())
      fail("client %u waits for %zu replies, and nobody is at them", number_, asked_.size());
    if (has_said_goodbye_)
      fail("client %u has left, and the connection does not end", number_);
  }
  // The plugin may never answer.
  has_left_ = true;
  expect_end();
  socket_->shut_down();
}

bool Client::receive_some(uint8_t *to, size_t length_bytes, size_t *received) {
  wait_for_input();
  may_switch();
  if (way_ == Way::reads_slowly && random_of_run().one_in(4))
    idle(50);
  const ssize_t part = socket_->receive(to, length_bytes);
  *received = part > 0 ? static_cast<size_t>(part) : 0;
  return part > 0;
}

// False: the stream has ended before.
bool Client::receive(uint8_t *to, size_t length_bytes) {
  while (length_bytes > 0) {
    size_t received;
    if (!receive_some(to, length_bytes, &received))
      return false;
    to += received;
    length_bytes -= received;
  }
  return true;
}

// False: the stream has ended before.
bool Client::receive_payload(const Reply &reply, Asked *asked) {
  uint64_t bytes = reply.payload_bytes;
  if (reply.is_simple && reply.error == 0 && asked->type == wire::NBD_CMD_READ) {
    if (all_.plan.style != wire::ReplyStyle::simple)
      fail("client %u reads by a simple reply", number_);
    bytes = asked->length_bytes;
  }
  if (bytes > LONGEST_PAYLOAD_BYTES)
    fail("client %u receives a chunk that is too long", number_);
  std::vector<uint8_t> payload(bytes);
  if (!receive(payload.data(), payload.size()))
    return false;
  take_payload(reply, payload, asked);
  return true;
}

// All of it is there.
void Client::check_reply(const Asked &asked) const {
  const Plan &plan = all_.plan;
  // Or of threads, without any for the turn of a request, or for the timer of a wait.
  const bool needs_thread = plan.turns > 0 || plan.layer == LayerKind::delay;
  const bool is_short =
      plan.refuse_memory_one_in > 0 || (plan.refuse_threads_one_in > 0 && needs_thread);
  const bool is_out_of_memory = asked.error == wire::NBD_ENOMEM && is_short;
  // Whoever leaves may be given up; and others' connections, which a flush needs.
  const bool may_be_given_up = may_end_early_ || has_said_goodbye_ || way_ != Way::good ||
                               (plan.layer == LayerKind::multi_conn && needs_flush(asked));
  const bool is_given_up = asked.error == wire::NBD_ESHUTDOWN && may_be_given_up;
  const bool is_right = asked.expected_error != 0 ? asked.error == asked.expected_error
                                                  : is_given_up || may_end_so(plan, asked);
  if (!is_out_of_memory && !is_right)
    fail("client %u receives error %u for command %u", number_, asked.error, asked.type);
  if (asked.error != 0)
    return;
  if (asked.type == wire::NBD_CMD_READ && asked.received_bytes != asked.length_bytes)
    fail("client %u reads too little, or a part twice", number_);
  if ((asked.flags & wire::NBD_CMD_FLAG_DF) != 0 && asked.chunks != 1)
    fail("client %u reads in pieces what it wants in one", number_);
  const bool wants_one = (asked.flags & wire::NBD_CMD_FLAG_REQ_ONE) != 0;
  if (wants_one && (asked.chunks != 1 || asked.received_bytes > asked.length_bytes))
    fail("client %u wants one extent, and gets others", number_);
  if (asked.type == wire::NBD_CMD_BLOCK_STATUS && !wants_one &&
      asked.received_bytes < asked.length_bytes)
    fail("client %u gets a status of a part", number_);
}

void Client::note_success(const Asked &asked) {
  const bool is_durable = (asked.flags & wire::NBD_CMD_FLAG_FUA) != 0;
  if (wire::is_change(asked.type))
    all_.durable.on_answered(number_, asked.offset, is_durable);
  else if (asked.type == wire::NBD_CMD_FLUSH)
    all_.durable.check(number_, asked.durable, all_.plan.layer == LayerKind::multi_conn);
}

bool Client::receive_reply() {
  const wire::ReplyStyle style = all_.plan.style;
  uint8_t header[wire::EXTENDED_CHUNK_HEADER_BYTES];
  if (!receive(header, MAGIC_BYTES))
    return false;
  const size_t header_bytes = reply_header_bytes(style, header);
  if (header_bytes == 0)
    fail("client %u receives what is no reply", number_);
  if (!receive(header + MAGIC_BYTES, header_bytes - MAGIC_BYTES))
    return false;
  const Reply reply = decode_reply(style, header);
  const auto found = asked_.find(reply.cookie);
  if (found == asked_.end())
    fail("client %u receives a reply to what it has not asked, or twice", number_);
  if (!receive_payload(reply, &found->second))
    return false;
  if (!reply.is_last)
    return true;
  check_reply(found->second);
  if (found->second.error == 0)
    note_success(found->second);
  asked_.erase(found);
  answered++;
  look_at_waits();
  return true;
}

void Client::receive_replies() {
  if (way_ == Way::reads_late)
    idle(LONGEST_IDLE_MS);
  while (receive_reply()) {
  }
  is_receiving_ = false;
  check_end();
  look_at_waits();
}

// The server has closed its end.
void Client::check_end() const {
  const bool all_answered = asked_.empty();
  const bool is_good = way_ == Way::good && !may_end_early_;
  if (is_good && (!all_answered || is_sending_))
    fail("client %u is left with %zu requests unanswered", number_, asked_.size());
}

} // namespace simulation
