// See request_admission.hpp.
#include "nbd/request_admission.hpp"

#include "wire/commands.hpp"

namespace asyncnbd::nbd {

RequestAdmission::RequestAdmission(Transmission &transmission)
    : shared_(transmission),
      memory_(shared_.settings.limits.in_flight_bytes, shared_.settings.server_budget.get(),
              MemoryAccount::ALLOTTED_BYTES +
                  shared_.backend.bytes_besides(wire::NBD_CMD_WRITE, MemoryAccount::FIRST_BYTES)) {}

backend::Reservation RequestAdmission::reserve(backend::Request &request) {
  if (!shared_.settings.has_shortcuts)
    return {};
  backend::Reservation reservation = shared_.backend.reserve(request);
  reservation.takes_pages = reservation.takes_pages && shared_.may_pipe;
  if (!reservation.is_file || shared_.system_receives)
    return reservation;
  shared_.backend.unreserve(request); // what has been encrypted, the system does not write
  return {};
}

uint32_t RequestAdmission::bytes_besides(uint16_t type, uint64_t length_bytes) const {
  return shared_.backend.bytes_besides(type, length_bytes) + wire::answer_bytes(type);
}

} // namespace asyncnbd::nbd
