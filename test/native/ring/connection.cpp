// See connection.hpp.
#include "connection.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "backend/timely_close.hpp"
#include "base/invariant.hpp"
#include "check.hpp"
#include "host/log.hpp"
#include "wire/commands.hpp"

namespace ring {

using namespace asyncnbd;

namespace {

// A client that has connected says who it is within this.
constexpr timeval HELLO_TIMEOUT{5, 0};
// Requests that are unanswered so long after their client has left are given up.
constexpr std::chrono::milliseconds GRACE{1000};
// After so many, others have waited long enough for this thread.
constexpr unsigned LONG_TURN_REQUESTS = 1024;

} // namespace

Connection::Connection(const Served &served, int socket, uint64_t number)
    : served_(served), context_(served, number, *this),
      bottom_(served.plugin, context_, served.threads), socket_(socket),
      leader_token_(served.runtime.slow_calls), latency_(served.runtime.clock) {
  context_.bottom = &bottom_;
  context_.instance = served.plugin->instance();
  context_.peer_fd = socket;
}

Connection::~Connection() {
  ::close(socket_);
}

// ---- the beginning ---------------------------------------------------------------------------

int Connection::open(const Hello &hello) {
  const bool is_readonly = hello.is_readonly != 0;
  const std::string name(hello.export_name, strnlen(hello.export_name, sizeof hello.export_name));
  if (!served_.chain->front(bottom_).preconnect(is_readonly))
    return EACCES;
  std::string error;
  backend_ = served_.chain->open(bottom_, {name, is_readonly, nullptr, {}}, &error);
  if (!error.empty())
    host::log_error("%s", error.c_str());
  return backend_ != nullptr ? 0 : ENOENT;
}

void Connection::send_welcome(int error) {
  Welcome welcome{static_cast<uint32_t>(error), 0, 0};
  if (error == 0) {
    welcome.offers = offers_of(backend_->facts());
    welcome.size_bytes = backend_->facts().size_bytes;
  }
  iovec piece{&welcome, sizeof welcome};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (error == 0) {
    const int fds[] = {ring_->memory_fd(), ring_->kick_fd()};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(rights), fds, sizeof fds);
  }
  (void)sendmsg(socket_, &message,
                MSG_NOSIGNAL | MSG_DONTWAIT); // a client that is gone shows later
}

// False: there is nothing to serve, and nothing to close.
bool Connection::greet() {
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &HELLO_TIMEOUT, sizeof HELLO_TIMEOUT);
  Hello hello;
  if (recv(socket_, &hello, sizeof hello, MSG_WAITALL) != sizeof hello)
    return false;
  const host::ContextScope scope(&context_);
  int error = open(hello);
  if (error == 0 && (ring_ = ServerSide::make()) == nullptr)
    error = ENOMEM;
  if (error == 0) {
    registration_ = served_.runtime.idle_poller.table().add(*this, {socket_, ring_->kick_fd()});
    if (registration_ == nullptr)
      error = EMFILE;
  }
  send_welcome(error);
  if (error != 0 && backend_ != nullptr)
    backend_->close_unused();
  return error == 0;
}

void Connection::serve(std::function<void()> on_closed) {
  if (!greet()) {
    hang_up();
    on_closed();
    return;
  }
  on_closed_ = std::move(on_closed);
  self_ = shared_from_this();
  if (backend_->facts().thread_model >= backend::ThreadModel::parallel)
    max_threads_ = served_.threads;
  served_.runtime.slow_calls.add(this, leader_token_.word());
  lead();
}

// ---- leading ---------------------------------------------------------------------------------

// By the thread that has the connection, until it waits for its client, another thread leads, or it
// has ended. The caller keeps it alive.
void Connection::lead() {
  const host::ContextScope scope(&context_); // for log lines
  for (;;) {
    RequestEntry entry;
    const ServerSide::Look look = ring_->take(&entry);
    if (look == ServerSide::Look::request) {
      if (!execute(entry)) {
        threads_--;
        return;
      }
      if (++turn_requests_ % LONG_TURN_REQUESTS != 0)
        continue;
      schedule::IdlePoller::before_delay();
    }
    if (look == ServerSide::Look::broken)
      host::log_error("the client's indices make no sense: it is disconnected");
    if (look == ServerSide::Look::broken || is_over()) {
      end();
      return;
    }
    if (look == ServerSide::Look::request)
      continue;
    threads_--;
    const schedule::PollTable::Wait wait = served_.runtime.idle_poller.table().wait(*registration_);
    if (wait == schedule::PollTable::Wait::begun)
      return;
    threads_++;
    if (wait == schedule::PollTable::Wait::impossible)
      hang_up();
  }
}

// On a worker of the idle poller.
schedule::Pollable::Turn Connection::resume() {
  const std::shared_ptr<Connection> keep = self_;
  threads_++;
  if (!latency_.is_quick())
    schedule::IdlePoller::before_delay();
  lead();
  return {};
}

bool Connection::release_idle_memory() {
  backend_->release_idle_memory();
  return true;
}

// The client says no more than its hello; a look costs a system call, and comes before each wait.
bool Connection::is_over() {
  char said;
  const ssize_t received = recv(socket_, &said, 1, MSG_DONTWAIT);
  if (received == 1)
    host::log_error("the client has sent something unexpected: it is disconnected");
  return received >= 0 || (errno != EAGAIN && errno != EINTR) || served_.server->is_stopping();
}

// False: another thread leads now.
bool Connection::execute(const RequestEntry &entry) {
  if (const int error = context_.is_disconnected ? ESHUTDOWN : check(entry, backend_->facts())) {
    post(entry.id, error, 0, nullptr);
    return true;
  }
  Job *job = new_job(entry);
  if (job == nullptr) {
    post(entry.id, EBUSY, 0, nullptr);
    return true;
  }
  const bool is_to_hand_over = latency_.is_slow() && ring_->has_more();
  const uint64_t call = leader_token_.begin_call(); // from here on, another thread may lead
  if (is_to_hand_over)
    hand_over(call);
  {
    schedule::CallLatency::Timed timed(latency_);
    backend_->submit(*job, backend::Caller::may_block);
  }
  return leader_token_.end_call(call);
}

// nullptr: a part of its memory is another one's that is in flight.
Connection::Job *Connection::new_job(const RequestEntry &entry) {
  std::lock_guard lock(mutex_);
  Job *found = nullptr;
  for (Job &job : jobs_) {
    if (job.is_free)
      found = &job;
    else if (entry.data_at < job.entry.data_at + job.entry.data_bytes &&
             job.entry.data_at < entry.data_at + entry.data_bytes)
      return nullptr;
  }
  base::invariant(found != nullptr, "no more requests are in flight than the ring has entries");
  static_cast<backend::Request &>(*found) = {};
  found->completers.reset(*this);
  found->entry = entry;
  found->is_free = false;
  found->type = entry.type;
  found->flags = entry.flags;
  found->offset = entry.offset;
  found->length_bytes = entry.length_bytes;
  if (moves_data(entry.type))
    found->data = ring_->data(entry.data_at);
  if (entry.type == wire::NBD_CMD_BLOCK_STATUS)
    found->make_extras().statuses.push_back({0, backend::ContextStatus::ALLOCATION, {}});
  in_flight_++;
  return found;
}

// On the detector's thread.
bool Connection::on_slow_call(uint64_t call) {
  latency_.count_slow_call();
  schedule::IdlePoller::replace_worker(*registration_);
  hand_over(call);
  return true;
}

// Another thread leads, unless the call has ended by the time it runs.
void Connection::hand_over(uint64_t call) {
  if (threads_++ >= max_threads_) {
    threads_--;
    return;
  }
  const bool is_running = served_.runtime.threads.run([self = self_, call]() mutable {
    schedule::IdlePoller &poller = self->served_.runtime.idle_poller;
    if (self->leader_token_.take(call))
      self->lead();
    else
      self->threads_--;
    self.reset();
    poller.offer_thread();
  });
  if (!is_running)
    threads_--;
}

// ---- requests on their way back --------------------------------------------------------------

namespace {

// Into the memory of the request. Returns how many there was room for.
uint32_t put_extents(const backend::Request &request, uint8_t *to, uint32_t capacity_bytes) {
  uint32_t count = 0;
  for (const backend::Extent &extent : request.extras->statuses.front().extents) {
    const ExtentEntry entry{extent.length_bytes, extent.flags};
    if ((count + 1) * sizeof entry > capacity_bytes)
      break;
    memcpy(to + count++ * sizeof entry, &entry, sizeof entry);
  }
  return count;
}

} // namespace

void Connection::complete(backend::Request &request, int error) {
  auto &job = static_cast<Job &>(request);
  request.take_answer(error);
  uint32_t count = 0;
  if (error == 0 && request.type == wire::NBD_CMD_BLOCK_STATUS)
    count = put_extents(request, ring_->data(job.entry.data_at), job.entry.data_bytes);
  request.extras.reset();
  // The last thing that keeps the connection may be this request.
  const std::shared_ptr<Connection> keep = self_;
  post(job.entry.id, error, count, &job);
}

void Connection::give_up(backend::Request &request, int error) {
  auto &job = static_cast<Job &>(request);
  const std::shared_ptr<Connection> keep = self_;
  job.pin = keep;
  post(job.entry.id, error, 0, nullptr);
  release(job);
  std::lock_guard lock(mutex_);
  in_flight_--;
  settled_.notify_all();
}

void Connection::release(backend::Request &request) {
  auto &job = static_cast<Job &>(request);
  if (job.holders.fetch_sub(1, std::memory_order_acq_rel) > 1)
    return;
  const std::shared_ptr<Connection> last = std::move(job.pin);
}

// `freed`: a job that ends with it.
void Connection::post(uint64_t id, int error, uint32_t count, Job *freed) {
  std::lock_guard lock(mutex_);
  if (freed != nullptr) {
    freed->is_free = true;
    in_flight_--;
    settled_.notify_all();
  }
  if (ring_->complete({id, static_cast<uint32_t>(error), count}))
    (void)send(socket_, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL); // full: there is something to read
}

// ---- the end ---------------------------------------------------------------------------------

// Whoever waits for the client sees that it is over.
void Connection::hang_up() {
  shutdown(socket_, SHUT_RDWR);
}

// By the leader, which nobody else can be any more: nothing is submitted after this.
void Connection::end() {
  schedule::IdlePoller::before_delay();
  hang_up();
  client_has_gone_ = true;
  backend_->on_client_gone();
  if (served_.server->is_stopping())
    backend_->on_server_stopping();
  std::unique_lock lock(mutex_);
  std::chrono::milliseconds left = GRACE;
  while (!settled_.wait_for(lock, left, [this] { return in_flight_ == 0; })) {
    lock.unlock();
    backend_->give_up_unanswered();
    lock.lock();
    left = backend::GIVE_UP_AGAIN_AFTER;
  }
  lock.unlock();
  finish();
}

void Connection::finish() {
  served_.runtime.slow_calls.remove(this); // which uses self_
  const std::shared_ptr<Connection> keep = std::move(self_);
  served_.runtime.idle_poller.table().remove(*registration_);
  backend::close_in_time(*backend_, served_.resources, GRACE);
  context_.export_name = nullptr;
  context_.peer_fd = -1;
  threads_--;
  on_closed_();
}

} // namespace ring
