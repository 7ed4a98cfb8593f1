// What a thread takes along from one connection to the next: requests and buffers that nobody uses
// and that are still in its cache. Of many connections each would find its own in none.
#pragma once

#include "connection/buffers.hpp"
#include "connection/pending_request.hpp"

namespace asyncnbd::connection {

struct Stock {
  PendingRequest *requests = nullptr; // a chain
  Buffer *input = nullptr;
  Buffer *output = nullptr; // which has never had anything but headers of replies

  Stock() = default;
  ~Stock();
  Stock(const Stock &) = delete;
  Stock &operator=(const Stock &) = delete;

  void add(PendingRequest *chain);

  static Stock &of_this_thread();
};

// Ends a chain of requests that nobody uses.
void destroy(PendingRequest *chain);

} // namespace asyncnbd::connection
