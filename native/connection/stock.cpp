// See stock.hpp.
#include "connection/stock.hpp"

namespace asyncnbd::connection {

Stock::~Stock() {
  destroy(requests);
  for (Buffer *buffer : {input, output})
    if (buffer != nullptr)
      BufferPool::destroy(buffer);
}

void Stock::add(PendingRequest *chain) {
  if (chain == nullptr)
    return;
  PendingRequest *last = chain;
  while (last->next != nullptr)
    last = last->next;
  last->next = requests;
  requests = chain;
}

Stock &Stock::of_this_thread() {
  thread_local Stock stock;
  return stock;
}

void destroy(PendingRequest *chain) {
  while (chain != nullptr) {
    PendingRequest *next = chain->next;
    delete chain;
    chain = next;
  }
}

} // namespace asyncnbd::connection
