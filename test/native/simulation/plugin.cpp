// See plugin.hpp.
#include "plugin.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "content.hpp"
#include "host/reply_batch.hpp"
#include "memory_order.hpp"
#include "wire/commands.hpp"

namespace simulation {

using namespace asyncnbd;

namespace {

constexpr uint8_t OVERWRITTEN = 0xee;
constexpr uint64_t MEMORY_BYTES = 1 << 20;
constexpr uint64_t MORE_BYTES = 128 << 10;

uint8_t *memory() {
  static std::vector<uint8_t> *bytes = nullptr;
  if (bytes == nullptr) {
    bytes = new std::vector<uint8_t>(MEMORY_BYTES);
    fill(bytes->data(), 0, MEMORY_BYTES);
  }
  return bytes->data();
}

// So far it tells the client of extents: perhaps of more than was asked for.
uint64_t draw_told_bytes(const Request &request) {
  const uint64_t more_bytes = random_of_run().one_in(2) ? random_of_run().below(MORE_BYTES) : 0;
  return std::min(request.length_bytes + more_bytes, DISK_BYTES - request.offset);
}

} // namespace

// ---- what is answered later ---------------------------------------------------------------------

void Plugin::start() {
  for (unsigned i = 0; i < plan_.plugin_threads; i++) {
    threads_++;
    start_fiber("plugin", [this] {
      while (!is_over_)
        answer_some();
      threads_--;
      look_at_waits();
    });
  }
}

void Plugin::end() {
  is_over_ = true;
  look_at_waits();
  wait_until([this] { return threads_ == 0; });
}

void Plugin::keep(Request &request, SimulatedBackend &backend) {
  Random &random = random_of_run();
  const bool never = plan_.never_one_in > 0 && random.one_in(plan_.never_one_in);
  const int64_t due_ns =
      never ? NEVER : now_ns() + static_cast<int64_t>(random.below(plan_.longest_ns));
  show_stores(current_fiber()); // as the lock does under which a plugin hands on what it has
  held_.push_back({&request, &backend, due_ns, false});
  changes_++;
  look_at_waits();
}

bool Plugin::is_due() const {
  return next_due_ns() <= now_ns();
}

int64_t Plugin::next_due_ns() const {
  int64_t due_ns = NEVER;
  for (const Held &held : held_)
    due_ns = std::min(due_ns, held.due_ns);
  return due_ns;
}

Plugin::Held Plugin::take_due() {
  std::vector<size_t> due;
  for (size_t i = 0; i < held_.size(); i++)
    if (held_[i].due_ns <= now_ns())
      due.push_back(i);
  const auto place = held_.begin() + static_cast<ptrdiff_t>(due[random_of_run().below(due.size())]);
  const Held held = *place;
  held_.erase(place);
  return held;
}

// By one of its threads: a few at once, which may leave together.
void Plugin::answer_some() {
  const uint64_t seen = changes_;
  wait_until([this, seen] { return is_over_ || is_due() || changes_ != seen; }, next_due_ns());
  const bool in_batch = random_of_run().one_in(2);
  if (in_batch)
    host::begin_reply_batch();
  for (uint64_t left = random_of_run().between(1, 4); left > 0 && is_due(); left--) {
    const Held held = take_due();
    may_switch();
    if (held.is_given_up)
      release(held);
    else
      held.backend->answer(*held.request);
  }
  if (in_batch)
    host::end_reply_batch();
}

// Of a request that has been given up: its memory is the plugin's until now.
void Plugin::release(const Held &held) {
  if (held.request->type == wire::NBD_CMD_READ && !held.request->is_reserved)
    fill(held.request->data, held.request->offset, held.request->length_bytes);
  if (held.request->type == wire::NBD_CMD_WRITE && held.request->is_reserved)
    held.backend->unreserve(*held.request);
  may_switch();
  last_busy_ns = now_ns(); // others may go on with its memory
  held.request->completers.maker().release(*held.request);
}

void Plugin::give_up(SimulatedBackend &backend) {
  std::vector<Request *> given_up;
  for (Held &held : held_) {
    if (held.backend != &backend || held.is_given_up)
      continue;
    held.is_given_up = true;
    held.due_ns = now_ns() + static_cast<int64_t>(random_of_run().below(2 * plan_.longest_ns));
    given_up.push_back(held.request);
  }
  changes_++;
  look_at_waits();
  for (Request *request : given_up) {
    backend.count_end();
    may_switch();
    request->give_up(ESHUTDOWN); // which its release may come before
  }
}

// ---- one connection's ---------------------------------------------------------------------------

bool SimulatedBackend::collect(const backend::Wanted &, backend::Facts *facts, std::string *) {
  facts->size_bytes = DISK_BYTES;
  facts->can_write = true;
  facts->can_flush = true;
  facts->can_trim = true;
  facts->can_fast_zero = true;
  facts->can_extents = true;
  facts->has_sparse_reads = true;
  facts->fua = plugin_.plan().fua;
  facts->zero = plugin_.plan().zero;
  facts->cache = plugin_.plan().cache;
  facts->call_limits.longest_range_bytes = plugin_.plan().longest_range_bytes;
  facts->thread_model =
      plugin_.plan().answers_later ? backend::ThreadModel::async : backend::ThreadModel::parallel;
  return true;
}

void SimulatedBackend::check(const Request &request) const {
  if (is_closed_)
    fail("a request comes after close");
  if (request.type == wire::NBD_CMD_WRITE &&
      !is_filled(request.data, request.offset, request.length_bytes))
    fail("a write at %llu has other bytes", static_cast<unsigned long long>(request.offset));
  if (!backend::is_inside(request.offset, request.length_bytes, DISK_BYTES))
    fail("a request is not inside the disk");
  const bool has_data = request.type == wire::NBD_CMD_READ || request.type == wire::NBD_CMD_WRITE;
  if (!has_data && request.length_bytes > plugin_.plan().longest_range_bytes)
    fail("a range is longer than the plugin can take");
  const uint16_t durable = request.flags & wire::NBD_CMD_FLAG_FUA;
  if (durable != 0 && plugin_.plan().fua != Support::native)
    fail("the plugin is to make something durable, and cannot");
  if (request.type == wire::NBD_CMD_WRITE_ZEROES &&
      (request.flags & ~durable) != zero_flags(request.offset))
    fail("the plugin is to zero with flags %x", request.flags);
}

void SimulatedBackend::submit(Request &request, backend::Caller) {
  const Plan &plan = plugin_.plan();
  Random &random = random_of_run();
  check(request);
  plugin_.submitted++;
  plugin_.busy++;
  if (plan.turns > 0 && plugin_.busy > plan.turns)
    fail("the plugin has %u requests, and takes %u at once", plugin_.busy, plan.turns);
  busy++;
  if (request.type == wire::NBD_CMD_FLUSH)
    flushes_[&request] = plugin_.durable.now();
  if (plan.later_one_in > 0 && random.one_in(plan.later_one_in)) {
    plugin_.keep(request, *this); // from here on it may be answered already
    may_switch();
    return;
  }
  if (!plan.answers_later && plan.slow_one_in > 0 && random.one_in(plan.slow_one_in))
    sleep_for_some_time(plan.longest_ns);
  else
    may_switch();
  answer(request);
}

void SimulatedBackend::count_end() {
  busy--;
  plugin_.busy--;
  last_busy_ns = plugin_.last_busy_ns = now_ns();
  plugin_.answered++;
}

int SimulatedBackend::draw_error(const Request &request) const {
  const uint64_t fail_flush_one_in = plugin_.plan().fail_flush_one_in;
  if (request.type == wire::NBD_CMD_FLUSH)
    return fail_flush_one_in > 0 && random_of_run().one_in(fail_flush_one_in) ? EIO : 0;
  if (is_broken(request.offset))
    return EIO;
  return request.type == wire::NBD_CMD_WRITE_ZEROES && random_of_run().one_in(4) ? ENOTSUP : 0;
}

void SimulatedBackend::answer(Request &request) {
  check(request);
  if (request.type == wire::NBD_CMD_WRITE && request.is_reserved)
    unreserve(request);
  const int error = draw_error(request);
  std::vector<uint8_t> borrowed;
  if (error == 0 && request.type == wire::NBD_CMD_READ && !request.is_reserved)
    answer_read(request, &borrowed);
  if (error == 0 && request.type == wire::NBD_CMD_BLOCK_STATUS)
    for (backend::ContextStatus &status : request.extras->statuses)
      status.extents = extents_of(request.offset, draw_told_bytes(request));
  if (error != 0 && random_of_run().one_in(2))
    request.make_extras().error_text = "it is broken";
  if (error == EIO && request.type != wire::NBD_CMD_FLUSH && random_of_run().one_in(2))
    request.make_extras().error_offset = request.offset;
  if (request.type == wire::NBD_CMD_FLUSH && error == 0)
    plugin_.durable.on_flushed(client_, flushes_[&request]);
  if (wire::is_change(request.type) && error == 0)
    plugin_.durable.on_carried_out(client_, request.offset,
                                   (request.flags & wire::NBD_CMD_FLAG_FUA) != 0);
  if (request.type == wire::NBD_CMD_READ)
    reads_[{request.offset, request.length_bytes}] = now_ns();
  count_end();
  request.complete(error);
  std::fill(borrowed.begin(), borrowed.end(), OVERWRITTEN);
}

void SimulatedBackend::answer_read(Request &request, std::vector<uint8_t> *borrowed) {
  if (request.may_have_holes && random_of_run().one_in(2) &&
      request.note_extents(extents_of(request.offset, request.length_bytes))) {
    fill(request.data, request.offset, request.length_bytes);
    return;
  }
  const uint64_t elsewhere_one_in = plugin_.plan().elsewhere_one_in;
  if (elsewhere_one_in == 0 || !random_of_run().one_in(elsewhere_one_in)) {
    fill(request.data, request.offset, request.length_bytes);
  } else if (random_of_run().one_in(2)) {
    lend(request);
  } else {
    borrowed->resize(request.length_bytes);
    fill(borrowed->data(), request.offset, request.length_bytes);
    request.answer.kind = backend::Answer::Kind::borrowed;
    request.answer.data = borrowed->data();
  }
}

int64_t SimulatedBackend::read_ns(uint64_t offset, uint64_t length_bytes) const {
  const auto found = reads_.find({offset, length_bytes});
  return found == reads_.end() ? NEVER : found->second;
}

// Until it is given back.
void SimulatedBackend::lend(Request &request) {
  struct Lent {
    Plugin &plugin;
    std::vector<uint8_t> data;
  };
  auto *lent = new Lent{plugin_, std::vector<uint8_t>(request.length_bytes)};
  fill(lent->data.data(), request.offset, request.length_bytes);
  plugin_.lent++;
  request.answer.kind = backend::Answer::Kind::lent;
  request.answer.data = lent->data.data();
  request.answer.opaque = lent;
  request.answer.give_back = [](void *opaque) {
    auto *given = static_cast<Lent *>(opaque);
    given->plugin.lent--;
    delete given;
  };
}

// A read's is the disk, of which the beginning lies in memory. A write's is lent until it is
// submitted.
backend::Reservation SimulatedBackend::reserve(Request &request) {
  may_switch();
  if (!plugin_.plan().has_places)
    return {};
  if (request.type == wire::NBD_CMD_READ) {
    const bool is_in_memory =
        backend::is_inside(request.offset, request.length_bytes, MEMORY_BYTES);
    return {is_in_memory && !is_broken(request.offset) ? memory() + request.offset : nullptr};
  }
  plugin_.lent++;
  request.reservation = new std::vector<uint8_t>(request.length_bytes);
  return {static_cast<std::vector<uint8_t> *>(request.reservation)->data()};
}

void SimulatedBackend::unreserve(Request &request) {
  plugin_.lent--;
  delete static_cast<std::vector<uint8_t> *>(std::exchange(request.reservation, nullptr));
}

void SimulatedBackend::close() {
  if (busy > 0)
    fail("a backend is closed with %u requests in it", busy);
  if (is_closed_)
    fail("a backend is closed twice");
  is_closed_ = true;
  plugin_.open--;
  may_switch();
}

} // namespace simulation
