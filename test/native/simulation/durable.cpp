// See durable.hpp.
#include "durable.hpp"

#include <algorithm>

#include "fibers.hpp"

namespace simulation {

Durable::Client &Durable::of(unsigned client) {
  if (client >= clients_.size())
    clients_.resize(client + 1);
  return clients_[client];
}

// Of two at one offset the first counts, and what is durable: at worst, less is asked of a flush.
void Durable::on_carried_out(unsigned client, uint64_t offset, bool is_durable) {
  Write &write = of(client).carried_out.try_emplace(offset, Write{now(), false}).first->second;
  write.is_durable = write.is_durable || is_durable;
}

void Durable::on_answered(unsigned client, uint64_t offset, bool has_to_be) {
  Client &writer = of(client);
  const auto found = writer.carried_out.find(offset);
  if (found == writer.carried_out.end())
    return;
  const Write write = found->second;
  writer.carried_out.erase(found);
  if (write.is_durable)
    return;
  if (has_to_be && write.time > writer.flushed)
    fail("client %u is told that a write is durable, and it is not", client);
  writer.written = std::max(writer.written, write.time);
}

// Flushes may overtake each other.
void Durable::on_flushed(unsigned client, uint64_t began) {
  of(client).flushed = std::max(of(client).flushed, began);
}

std::vector<uint64_t> Durable::needed() const {
  std::vector<uint64_t> written;
  for (const Client &client : clients_)
    written.push_back(client.written);
  return written;
}

void Durable::check(unsigned client, const std::vector<uint64_t> &needed, bool of_all) const {
  for (unsigned i = 0; i < needed.size(); i++) {
    const bool is_included = i == client || (of_all && !clients_[i].is_leaving);
    if (is_included && needed[i] > clients_[i].flushed)
      fail("a flush of client %u leaves out what client %u has written", client, i);
  }
}

} // namespace simulation
