// A request on its way through a connection, and what its reply needs.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "backend/backend.hpp"
#include "base/buffers.hpp"
#include "base/clock.hpp"
#include "base/invariant.hpp"
#include "base/slabs.hpp"
#include "nbd/encoded_reply.hpp"
#include "nbd/memory_account.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::nbd {

// A request from its parsing until its reply has left.
struct PendingRequest : backend::Request {
  uint64_t cookie;
  base::Time received_at; // the batch it was in, if requests are timed
  int error;              // what the backend (or the check before it) said
  // Where the reply's header is to be; a read's data follows it at once, unless its answer is
  // elsewhere.
  uint8_t *reply;
  EncodedReply::Owner encoded; // instead, if there is more to the reply
  wire::ReplyStyle style;
  base::Buffer *reply_buffer;   // holds `reply`
  base::Buffer *payload_buffer; // holds a write's data, or nullptr
  MemoryCharge charge;          // of the connection's memory
  // Who has it: see `enter`. Handed on with the request, so that it needs no order of its own.
  enum class Stage : uint8_t {
    free,      // nobody, or a cache
    incoming,  // the reader
    in_flight, // the backend
    answered,  // the reply queue, and the plugin if it is given up
  };
  Stage stage = Stage::free;
  bool is_given_up;     // there is someone besides the reply queue who may use it
  PendingRequest *next; // in the queue, or among the free
  // If it is given up: the reply queue, and the plugin. From the beginning, for the plugin's late
  // reply may come before give_up has been called. Each decrement is a release and an acquire: the
  // last one finds the request as the other has left it.
  std::atomic<uint8_t> holders;
  std::shared_ptr<void> pin; // what it needs to live on, if it is given up

  void reset();
  // It changes hands. Asserted: nobody answers twice, and nothing is used again too early.
  void enter(Stage from, Stage to) {
    base::invariant(stage == from, "a request goes from the reader to the backend to the client");
    stage = to;
  }
};

// Of all connections, as threads take requests from one to another.
using RequestSlabs = base::SlabsOf<PendingRequest>;

// Ends a chain of requests that nobody uses.
inline void destroy(PendingRequest *chain) {
  RequestSlabs::destroy_chain(chain);
}

} // namespace asyncnbd::nbd
