// Descriptors of a simulated run: streams between a client and its connection, eventfds, epolls.
// They behave as Linux's do, as far as the sources under test rely on it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sys/epoll.h>
#include <sys/types.h>
#include <vector>

#include "fibers.hpp"

namespace simulation {

// No real descriptor has such a number.
constexpr int FIRST_DESCRIPTOR = 1 << 20;

class Epoll;
class Descriptor;

struct Watch {
  std::weak_ptr<Epoll> epoll;
  std::weak_ptr<Descriptor> whose;
  uint32_t events = 0;
  epoll_data_t data{};
  bool is_armed = true; // else it has told once, as it was asked
  bool is_queued = false;

  // Of what happens or is so, what it tells.
  uint32_t told_of(uint32_t what) const {
    return is_armed ? what & (events | EPOLLHUP | EPOLLERR) : 0;
  }
};

class Descriptor {
public:
  virtual ~Descriptor() = default;
  // EPOLL* that are so now.
  virtual uint32_t events() const = 0;
  virtual void on_close() {}

  // Something has happened, of the kinds in `events`: those are told that wait for it.
  void notify(uint32_t events);

  std::vector<std::shared_ptr<Watch>> watches;
};

class EventCounter final : public Descriptor {
public:
  uint32_t events() const override { return count > 0 ? EPOLLIN | EPOLLOUT : uint32_t{EPOLLOUT}; }
  uint64_t count = 0;
};

class Epoll final : public Descriptor {
public:
  uint32_t events() const override { return ready_.empty() ? 0 : uint32_t{EPOLLIN}; }
  // What has something to tell; taken from there.
  std::shared_ptr<Watch> take();
  void queue(const std::shared_ptr<Watch> &watch);

private:
  std::vector<std::shared_ptr<Watch>> ready_;
};

// One direction of a stream.
struct Stream {
  std::vector<uint8_t> bytes;
  size_t begin = 0; // of those that have not been read
  size_t capacity_bytes = 64 << 10;
  bool writer_has_ended = false;
  bool reader_has_ended = false;

  size_t size() const { return bytes.size() - begin; }
  size_t room() const { return capacity_bytes - std::min(capacity_bytes, size()); }
  void put(const uint8_t *from, size_t length_bytes);
  size_t take(uint8_t *to, size_t length_bytes);
};

class Socket final : public Descriptor {
public:
  uint32_t events() const override;
  void on_close() override;

  // As the system calls of the same names: a number of bytes or a negative errno.
  ssize_t receive(uint8_t *to, size_t length_bytes);
  ssize_t send(const uint8_t *from, size_t length_bytes, bool may_block);
  void shut_down();   // both directions
  void end_writing(); // this one alone
  bool can_receive() const;

  std::shared_ptr<Stream> in;
  std::shared_ptr<Stream> out;
  std::weak_ptr<Socket> peer;
  int64_t send_patience_ns = NEVER;
};

// Of the process. -EMFILE as the run has it; never a number that is in use.
int add_descriptor(std::shared_ptr<Descriptor> descriptor);
// The run fails where there is none: whoever uses what has been closed may use another's.
Descriptor &descriptor(int number);
std::shared_ptr<Descriptor> shared_descriptor(int number);
void close_descriptor(int number);
bool is_simulated(int number);
size_t open_descriptors();

// From now on: of the descriptors asked for, one in so many is refused; 0: none is.
void refuse_descriptors(uint64_t one_in);
// What is left when a run is over: what the process keeps for ever.
void forget_descriptors();

// The server's end as a number; the client's as an object, which no descriptor belongs to.
struct Connected {
  int server;
  std::shared_ptr<Socket> client;
};
Connected connect_pair(size_t capacity_bytes);

} // namespace simulation
