// The socket by which an operator pauses and resumes requests. Each command is a byte, and so is
// each answer.
#pragma once

#include <memory>
#include <string>
#include <sys/types.h>

#include "base/threads.hpp"

namespace asyncnbd::filters {

// What is paused. `pause` and `resume` are called on the socket's thread, which may block.
class Pausable {
public:
  virtual ~Pausable() = default;
  // Returns when all that is in progress is done.
  virtual void pause() = 0;
  virtual void resume() = 0;
  // From now on, nothing waits in `pause`.
  virtual void stop() = 0;
};

class PauseControl final : public std::enable_shared_from_this<PauseControl> {
public:
  // Replaces an old socket. nullptr, with a message in `*error`, if the socket cannot be made.
  static std::shared_ptr<PauseControl> listen(const std::string &path, std::string *error);
  ~PauseControl();
  PauseControl(const PauseControl &) = delete;
  PauseControl &operator=(const PauseControl &) = delete;

  // False: no thread could be started.
  bool begin(base::Threads &threads, std::shared_ptr<Pausable> pausable);
  // Removes the socket, if it is still there; does not wait for the thread.
  void end();

private:
  explicit PauseControl(std::string path) : path_(std::move(path)) {}

  bool bind(std::string *error);
  void serve();
  bool answer(int client);
  // False: the thread must end.
  bool wait_for(int fd);

  const std::string path_;
  int socket_ = -1;
  int end_ = -1; // an eventfd: readable at the end
  dev_t device_ = 0;
  ino_t inode_ = 0; // of the socket: later the path may have another one
  std::shared_ptr<Pausable> pausable_;
};

} // namespace asyncnbd::filters
