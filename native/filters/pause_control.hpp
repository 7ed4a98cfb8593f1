// The socket by which an operator pauses requests and has them go on: bytes, each of which is
// answered.
#pragma once

#include <memory>
#include <string>
#include <sys/types.h>

#include "base/threads.hpp"

namespace asyncnbd::filters {

// Who is told. On the socket's thread, which may block.
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
  // In place of a socket that is there. nullptr, with words in `*error`, if it cannot be made.
  static std::shared_ptr<PauseControl> listen(const std::string &path, std::string *error);
  ~PauseControl();
  PauseControl(const PauseControl &) = delete;
  PauseControl &operator=(const PauseControl &) = delete;

  // False: the system gives no thread.
  bool begin(base::Threads &threads, std::shared_ptr<Pausable> pausable);
  // Takes the socket away, if it is still there; does not wait for the thread.
  void end();

private:
  explicit PauseControl(std::string path) : path_(std::move(path)) {}

  bool bind(std::string *error);
  void serve();
  bool answer(int client);
  // False: it is to end.
  bool wait_for(int fd);

  const std::string path_;
  int socket_ = -1;
  int end_ = -1; // an eventfd: readable at the end
  dev_t device_ = 0;
  ino_t inode_ = 0; // of the socket: what is at the path may be another's later
  std::shared_ptr<Pausable> pausable_;
};

} // namespace asyncnbd::filters
