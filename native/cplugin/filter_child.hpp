// A request from a filter to what is behind it; the filter waits for its answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <pthread.h>

#include "backend/backend.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::cplugin {

// Used once. If requests may be given up while a plugin goes on using them, it must not lie on the
// stack, nor use the filter's memory for data.
class Child final : public backend::Maker {
public:
  Child() { request.completers.reset(*this); }

  backend::Request request{};

  // Submits and waits. Returns 0 or an errno. The answer's data is then in the request's data.
  int run(backend::Backend &backend);

  // On the heap, with `data_bytes` of its own for data; nullptr: not enough memory. It keeps
  // `behind`, to which it is submitted, until nobody uses the request any more: a plugin may reply
  // long after the client has given up and gone.
  static Child *make(size_t data_bytes, std::shared_ptr<backend::Backend> behind);
  // The caller of make and run does not use it any more.
  void let_go();
  // True: the plugin may still use the request, and nothing here may touch it.
  bool is_given_up() const { return is_given_up_; }

private:
  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  void release(backend::Request &request) override;
  // The waiting filter must see the end; whether its client has gone is not known here.
  bool client_has_gone() const override { return false; }

  void end(int error);

  const pthread_t submitter_ = pthread_self();
  std::shared_ptr<backend::Backend> behind_; // only if made by make()
  std::unique_ptr<uint8_t[]> memory_;
  int error_ = 0;
  bool is_given_up_ = false;    // set before it ends
  bool has_ended_here_ = false; // on the submitter's thread, inside submit
  // Only if made by make(): its users, which are what is behind and the thread that waits. Release
  // and acquire: the last user frees it.
  std::atomic<int> holders_{2};

  base::Mutex<base::LockRank::filter_call> mutex_; // guards has_ended_, and until then error_
  base::Condition ended_;
  bool has_ended_ = false;
};

} // namespace asyncnbd::cplugin
