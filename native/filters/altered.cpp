// See altered.hpp.
#include "filters/altered.hpp"

#include <cerrno>

namespace asyncnbd::filters {

using backend::Request;
using backend::Support;

// A read-only export offers no command that writes.
bool AlteredLayer::collect(const backend::Wanted &wanted, backend::Facts *facts,
                           std::string *error) {
  if (!EmulatedLayer::collect(wanted, facts, error))
    return false;
  if (!alter(facts, error))
    return false;
  if (!facts->can_write) {
    facts->can_trim = false;
    facts->zero = Support::none;
    facts->fua = Support::none;
  }
  if (facts->zero == Support::none)
    facts->can_fast_zero = false;
  return true;
}

// The backend below must see the request as it will be submitted.
backend::Reservation AlteredLayer::reserve(Request &request) {
  const uint16_t flags = request.flags;
  request.flags = flags_below(request);
  const backend::Reservation reservation = below().reserve(request);
  request.flags = flags;
  return reservation;
}

void AlteredLayer::submit(Request &request, backend::Caller caller) {
  const uint16_t flags = flags_below(request);
  if (flags != request.flags) {
    if (!request.completers.push(*this, reinterpret_cast<void *>(uintptr_t{request.flags}))) {
      refuse(request, ENOMEM);
      return;
    }
    request.flags = flags;
  }
  below().submit(request, caller);
}

void AlteredLayer::restore(Request &request) {
  request.flags = static_cast<uint16_t>(reinterpret_cast<uintptr_t>(request.completers.pop(*this)));
}

void AlteredLayer::complete(Request &request, int error) {
  restore(request);
  request.complete(error);
}

void AlteredLayer::give_up(Request &request, int error) {
  restore(request);
  request.give_up(error);
}

} // namespace asyncnbd::filters
