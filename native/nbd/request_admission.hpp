// What one connection's requests may take: memory of its account, places of its backend.
#pragma once

#include "nbd/memory_account.hpp"
#include "nbd/request_reader.hpp"
#include "nbd/transmission.hpp"

namespace asyncnbd::nbd {

// By whoever leads the connection; what has been taken, any thread gives back.
class RequestAdmission final : public Admission, private base::MemoryBudget::Waiter {
public:
  explicit RequestAdmission(Transmission &transmission);

  MemoryAccount &memory() { return memory_; }
  // Nobody waits for memory any more.
  void leave() { memory_.leave(*this); }

  // Admission
  bool admit(MemoryCharge &charge, uint64_t bytes) override {
    return memory_.take(charge, bytes, *this);
  }
  // On a loop, it may stand in line as well when its connection ends.
  void withdraw(const MemoryCharge &charge) override {
    leave();
    memory_.give_back(charge);
  }
  backend::Reservation reserve(backend::Request &request) override;
  void unreserve(backend::Request &request) override { shared_.backend.unreserve(request); }
  uint32_t bytes_besides(uint16_t type, uint64_t length_bytes) const override;
  void on_failure(const std::string &reason) override { shared_.failure.note(reason); }

private:
  // MemoryBudget::Waiter
  void on_room() override { shared_.transport.wake(); }

  Transmission &shared_;
  MemoryAccount memory_;
};

} // namespace asyncnbd::nbd
