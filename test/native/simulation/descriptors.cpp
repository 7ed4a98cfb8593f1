// See descriptors.hpp.
#include "descriptors.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace simulation {

namespace {

struct Table {
  std::vector<std::shared_ptr<Descriptor>> all; // nullptr: the number is free
  uint64_t refuse_one_in = 0;
};

Table &table() {
  static auto *made = new Table;
  return *made;
}

} // namespace

// ---- what waits for descriptors -----------------------------------------------------------------

void Descriptor::notify(uint32_t events) {
  for (const std::shared_ptr<Watch> &watch : watches)
    if (watch->told_of(events) != 0)
      if (const std::shared_ptr<Epoll> epoll = watch->epoll.lock())
        epoll->queue(watch);
  look_at_waits();
}

void Epoll::queue(const std::shared_ptr<Watch> &watch) {
  if (!std::exchange(watch->is_queued, true))
    ready_.push_back(watch);
}

std::shared_ptr<Watch> Epoll::take() {
  while (!ready_.empty()) {
    const auto chosen =
        ready_.begin() + static_cast<ptrdiff_t>(random_of_run().below(ready_.size()));
    std::shared_ptr<Watch> watch = *chosen;
    ready_.erase(chosen);
    watch->is_queued = false;
    const std::shared_ptr<Descriptor> whose = watch->whose.lock();
    if (whose && watch->told_of(whose->events()) != 0)
      return watch;
  }
  return nullptr;
}

// ---- streams ------------------------------------------------------------------------------------

void Stream::put(const uint8_t *from, size_t length_bytes) {
  bytes.insert(bytes.end(), from, from + length_bytes);
}

size_t Stream::take(uint8_t *to, size_t length_bytes) {
  const size_t taken = std::min(length_bytes, size());
  memcpy(to, bytes.data() + begin, taken);
  begin += taken;
  if (begin == bytes.size()) {
    bytes.clear();
    begin = 0;
  }
  return taken;
}

bool Socket::can_receive() const {
  return in->size() > 0 || in->writer_has_ended || in->reader_has_ended;
}

uint32_t Socket::events() const {
  uint32_t events = 0;
  if (can_receive())
    events |= EPOLLIN;
  if (in->writer_has_ended || in->reader_has_ended)
    events |= EPOLLRDHUP;
  // By whichever side each direction has been shut down.
  if ((in->writer_has_ended || in->reader_has_ended) &&
      (out->writer_has_ended || out->reader_has_ended))
    events |= EPOLLHUP;
  // As a unix socket: from a quarter of its buffer on it says that there is none.
  if (out->size() * 4 <= out->capacity_bytes || out->reader_has_ended)
    events |= EPOLLOUT;
  return events;
}

ssize_t Socket::receive(uint8_t *to, size_t length_bytes) {
  if (in->size() == 0 && !in->writer_has_ended && !in->reader_has_ended)
    return -EAGAIN;
  const size_t taken = in->take(to, length_bytes);
  if (taken > 0)
    if (const std::shared_ptr<Socket> other = peer.lock())
      other->notify(EPOLLOUT);
  return static_cast<ssize_t>(taken);
}

ssize_t Socket::send(const uint8_t *from, size_t length_bytes, bool may_block) {
  const int64_t due_ns =
      send_patience_ns == NEVER ? NEVER : now_ns() + send_patience_ns; // of the whole call
  size_t sent = 0;
  while (sent < length_bytes) {
    if (out->reader_has_ended || out->writer_has_ended)
      return sent > 0 ? static_cast<ssize_t>(sent) : -EPIPE;
    const size_t part = std::min(out->room(), length_bytes - sent);
    if (part > 0) {
      out->put(from + sent, part);
      sent += part;
      if (const std::shared_ptr<Socket> other = peer.lock())
        other->notify(EPOLLIN);
      continue;
    }
    if (!may_block)
      break;
    const auto may_go_on = [this] {
      return out->room() > 0 || out->reader_has_ended || out->writer_has_ended;
    };
    if (!wait_until(may_go_on, due_ns) && out->room() == 0)
      break;
  }
  return sent > 0 ? static_cast<ssize_t>(sent) : -EAGAIN;
}

void Socket::end_writing() {
  out->writer_has_ended = true;
  if (const std::shared_ptr<Socket> other = peer.lock())
    other->notify(EPOLLIN | EPOLLRDHUP | EPOLLHUP);
  notify(EPOLLOUT | EPOLLHUP);
}

void Socket::shut_down() {
  in->reader_has_ended = true;
  end_writing();
  if (const std::shared_ptr<Socket> other = peer.lock())
    other->notify(EPOLLOUT | EPOLLHUP);
  notify(EPOLLIN | EPOLLRDHUP | EPOLLHUP);
}

// What has been sent stays for the other end to be read.
void Socket::on_close() {
  shut_down();
}

// ---- numbers ------------------------------------------------------------------------------------

int add_descriptor(std::shared_ptr<Descriptor> descriptor) {
  Table &known = table();
  if (known.refuse_one_in > 0 && random_of_run().one_in(known.refuse_one_in))
    return -EMFILE;
  auto place = std::find(known.all.begin(), known.all.end(), nullptr);
  if (place == known.all.end())
    place = known.all.insert(place, nullptr);
  *place = std::move(descriptor);
  return FIRST_DESCRIPTOR + static_cast<int>(place - known.all.begin());
}

bool is_simulated(int number) {
  return number >= FIRST_DESCRIPTOR;
}

std::shared_ptr<Descriptor> shared_descriptor(int number) {
  const auto index = static_cast<size_t>(number - FIRST_DESCRIPTOR);
  const Table &known = table();
  if (!is_simulated(number) || index >= known.all.size() || known.all[index] == nullptr)
    fail("a descriptor is used that is not open: %d", number);
  return known.all[index];
}

Descriptor &descriptor(int number) {
  return *shared_descriptor(number);
}

void close_descriptor(int number) {
  const std::shared_ptr<Descriptor> closed = shared_descriptor(number);
  table().all[static_cast<size_t>(number - FIRST_DESCRIPTOR)] = nullptr;
  closed->watches.clear();
  closed->on_close();
}

size_t open_descriptors() {
  const Table &known = table();
  return known.all.size() -
         static_cast<size_t>(std::count(known.all.begin(), known.all.end(), nullptr));
}

void refuse_descriptors(uint64_t one_in) {
  table().refuse_one_in = one_in;
}

void forget_descriptors() {
  table().all.clear();
}

Connected connect_pair(size_t capacity_bytes) {
  auto server = std::make_shared<Socket>();
  auto client = std::make_shared<Socket>();
  server->in = client->out = std::make_shared<Stream>();
  server->out = client->in = std::make_shared<Stream>();
  server->in->capacity_bytes = server->out->capacity_bytes = capacity_bytes;
  server->peer = client;
  client->peer = server;
  const int number = add_descriptor(server);
  return {number, client};
}

} // namespace simulation
