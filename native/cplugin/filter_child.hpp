// A request that a filter makes of what is behind it, and waits for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <pthread.h>

#include "backend/backend.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::cplugin {

// Used once. Where requests may be given up, and used on by a plugin after that, it must not be on
// the stack, nor its data the filter's.
class Child final : public backend::Maker {
public:
  Child() { request.completers.reset(*this); }

  backend::Request request{};

  // Submits and waits. An errno or 0; then the answer's data are where the request's are.
  int run(backend::Backend &backend);

  // In memory, with so many bytes of its own for data; nullptr: there is not enough. `behind`, to
  // which it is submitted, stays until nobody uses it any more: a plugin may reply when the client
  // that has given it up is long gone.
  static Child *make(size_t data_bytes, std::shared_ptr<backend::Backend> behind);
  // By who has run one that was made: it is not used here any more.
  void let_go();
  // Then the plugin may still use the request, and nothing of it may be touched here.
  bool is_given_up() const { return is_given_up_; }

private:
  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  void release(backend::Request &request) override;
  // Whoever waits for it would see the end; whether its client has gone, nobody knows here.
  bool client_has_gone() const override { return false; }

  void end(int error);

  const pthread_t submitter_ = pthread_self();
  std::shared_ptr<backend::Backend> behind_; // of one that was made
  std::unique_ptr<uint8_t[]> memory_;
  int error_ = 0;
  bool is_given_up_ = false;    // set before it ends
  bool has_ended_here_ = false; // on the submitter's thread, inside submit
  // Of one that was made: who still uses it, what is behind and who waits for it. Released and
  // acquired: the last one frees it.
  std::atomic<int> holders_{2};

  base::Mutex<base::LockRank::filter_call> mutex_; // guards has_ended_ and error_ before it
  base::Condition ended_;
  bool has_ended_ = false;
};

} // namespace asyncnbd::cplugin
