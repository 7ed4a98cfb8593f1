// The client's end of a ring.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "layout.hpp"

namespace ring {

// One thread at a time.
class ClientSide {
public:
  // Ends the program if there is no server, or it refuses.
  ClientSide(const std::string &path, const std::string &export_name);
  ~ClientSide();
  ClientSide(const ClientSide &) = delete;
  ClientSide &operator=(const ClientSide &) = delete;

  const Welcome &welcome() const { return welcome_; }
  Shared &shared() { return *shared_; }
  int socket() const { return socket_; }
  int memory_fd() const { return memory_fd_; }

  bool offers(uint16_t type) const { return (welcome_.offers >> type & 1) != 0; }
  bool has_room() const { return submitted_ - consumed_ < ENTRIES; }
  uint8_t *data(uint64_t at) { return shared_->data.data() + at; }

  // Seen by the server at the next kick.
  void submit(const RequestEntry &entry);
  void kick();
  // Waits for the next completion. std::nullopt: the server has hung up.
  std::optional<Completion> wait();
  // Waits until the server has hung up, whatever it completes meanwhile. Ends the program if it
  // does not.
  void wait_for_end();

private:
  bool sleep();

  int socket_;
  int memory_fd_ = -1;
  int kick_fd_ = -1;
  Welcome welcome_{};
  Shared *shared_ = nullptr;
  uint32_t submitted_ = 0;
  uint32_t consumed_ = 0;
};

[[noreturn]] void fail(const std::string &words);
void expect(bool is_so, const std::string &words);

} // namespace ring
